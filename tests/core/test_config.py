"""Files read, and what is made of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.api import Secret
from proxy.core.config import (
    AdminTable,
    Config,
    ConfigError,
    ImagesTable,
    Listen,
    LogTable,
    PluginTable,
    QueueTable,
    ServerTable,
    load,
    zero,
)
from proxy.model.bucket import Account, Bucket

from .configs import (
    HERE,
    KEY,
    ONE,
    OPEN,
    TWO,
    Stamp,
)

# --- Reading


def test_the_smallest_file_has_every_default(read: Callable[..., Config]) -> None:
    config = read(ONE)
    assert config.server == replace(ServerTable(), public_url="http://127.0.0.1:8080")
    assert config.log == LogTable("json", True)
    assert config.upstreams["openai"].api_key == (Secret(KEY),)
    assert [(route.match, route.chain, route.upstream, route.prefix) for route in config.routes] == [
        ("* /v1/*", (), None, "/v1")
    ]
    assert (config.admin, config.plugins, config.unbuilt) == (None, {}, ())
    assert config.reach(config.routes[0]) == ("openai",)


def test_reads_the_file_of_the_design(read: Callable[..., Config]) -> None:
    config = read(
        TWO
        + """
        models = { "gpt-image-2" = "my-image-deployment" }
        limits = { images = "50 / 1m", concurrent = 10 }
        [server]
        listen = "unix:run/framegate.sock"
        workers = 1
        [admin]
        listen = "same"
        [store]
        timezone = "Europe/Berlin"
        [images]
        ttl = "forever"
        [keys.marketing-web]
        secret = "env:MARKETING_KEY"
        group = "marketing"
        limits = { images = "20 / 1m", budget = "25 USD / month" }
        [groups.marketing]
        limits = { budget = "200 USD / month" }
        [models."gpt-image-*"]
        limits = { images = ["20 / 1m", "500 / 1d"] }
        [plugins.quota]
        per = "key"
        limits = { concurrent = 10 }
        [[routes]]
        match = "POST /v1/images/*"
        upstream = "azure"
        max_body = "10MB"
        limits = { requests = "20 / 10s" }
        [[routes]]
        match = "* /v1/*"
        """
    )
    assert config.server.listen.path is not None
    assert config.server.listen.path.endswith("/run/framegate.sock")
    assert config.server.listen.path.startswith("/")
    assert config.admin == AdminTable(Secret(KEY), "same")
    assert config.keys["marketing-web"].limits.images[0].count == 20
    assert config.routes[0].methods == frozenset(("POST",))
    assert config.routes[0].max_body == 10_000_000
    assert config.reach(config.routes[0]) == ("azure",)
    assert config.unbuilt == (
        "admin",
        "plugins.quota",
    )


def test_makes_fresh_instances_of_plugins(read: Callable[..., Config]) -> None:
    config = read(ONE + f'[plugins.mark]\nuse = "{HERE}:Stamp"\non_crash = "skip"\ntext = "x"\nmarks = ["a"]\n')
    table = config.plugins["mark"]
    assert (table.on_crash, table.plugin, table.kind) == ("skip", Stamp, "stamp")
    first, second = table.make(), table.make()
    assert first == second == Stamp("x", ["a"])
    assert first is not second
    assert first.marks is not second.marks


def test_the_command_lines_address_replaces_the_files(read: Callable[..., Config], tmp_path: Path) -> None:
    assert read(ONE + OPEN, listen="[::1]:0").server.listen == Listen("::1", 0)
    assert read(ONE, listen="unix:/run/x").server.listen.path == "/run/x"
    assert read(ONE, listen="unix:x").server.listen.path == str(Path.cwd() / "x")


def test_answers_name_only_the_id_off_loopback_unless_told_otherwise(read: Callable[..., Config]) -> None:
    keyless = ONE.replace("api_key", "# api_key")
    assert read(keyless).server.expose == "all"
    assert read(keyless + OPEN).server.expose == "id"
    assert read(keyless + OPEN + 'expose = "all"').server.expose == "all"


def test_zero_config_is_openai_on_loopback() -> None:
    config = zero({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "http://127.0.0.1:8080/v1"})
    assert (str(config.server.listen), config.path) == ("127.0.0.1:8080", None)
    assert config.upstreams["openai"].base_url == "https://api.openai.com/v1"
    assert config.upstreams["openai"].has_credential


@pytest.mark.parametrize("environ", [{}, {"OPENAI_API_KEY": ""}])
def test_zero_config_without_a_key_is_transparent(environ: dict[str, str]) -> None:
    config = zero(environ)
    assert not config.upstreams["openai"].has_credential
    assert config.routes[0].chain == ()
    assert config.upstreams["openai"].layers == ("wire",)


def test_zero_config_with_a_key_stays_on_loopback() -> None:
    with pytest.raises(ConfigError, match="could spend the credential"):
        zero({"OPENAI_API_KEY": KEY}, listen="0.0.0.0:8080")
    assert zero({}, listen="0.0.0.0:8080").server.expose == "id"


def test_a_plugins_table_names_its_kind() -> None:
    assert PluginTable("rehost-always", Stamp, "rehost").kind == "rehost"


# --- Files that can't be read


def test_a_broken_file_is_one_complaint_with_line_and_column(said: Callable[..., list[str]]) -> None:
    [line] = said(f"[upstreams.openai]\nbase_url = {KEY}")
    assert line.endswith("framegate.toml: line 2, column 12: not TOML: Invalid value")


def test_a_file_that_ends_too_early_says_where_it_ends(said: Callable[..., list[str]]) -> None:
    [line] = said("[log]\nformat =")
    assert re.search(r"line 2, column 9: not TOML: \w", line)


@pytest.mark.parametrize("text", ["x = " + "[" * 5000, "x = " + "9" * 5000])
def test_a_file_made_to_break_the_parser_is_one_complaint(said: Callable[..., list[str]], text: str) -> None:
    [line] = said(text)
    assert "not TOML that can be read" in line


def test_a_file_that_can_not_be_read_is_one_complaint(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"# caf\xe9")
    for name, why in (("none.toml", "No such file"), (".", "Is a directory"), ("latin", "is not text in UTF-8")):
        with pytest.raises(ConfigError, match=why) as caught:
            load(tmp_path / name, {})
        assert len(caught.value.complaints) == 1


def test_a_byte_order_mark_is_no_complaint(read: Callable[..., Config]) -> None:
    assert read("\ufeff" + ONE)


# --- What is printed of it


def test_no_table_prints_a_secret(read: Callable[..., Config]) -> None:
    config = read(
        ONE + f'headers = {{ X = "env:AZURE_KEY" }}\n[plugins.mark]\nuse = "{HERE}:Stamp"\ntext = "x"\nmarks = []\n'
        'token = "env:AZURE_KEY"\n[admin]\n[keys.a]\nsecret = "env:MARKETING_KEY"\n'
    )
    assert KEY not in repr(config)
    assert KEY not in "".join(config.pictures())
    assert KEY not in repr(config.plugins["mark"].make())


# --- Pictures


def test_pictures_are_kept_where_the_config_says_so(read: Callable[..., Config], tmp_path: Path) -> None:
    assert read(ONE).images is None
    assert read(ONE + "[images]\n").images == ImagesTable(f"file:{tmp_path}/state/images")
    config = read(ONE + '[images]\nurl = "file:/srv/x"\nttl = "forever"\nmax_bytes = "1GiB"\naccel = "/in/ter/"\n')
    assert config.images == ImagesTable("file:/srv/x", "forever", 2**30, accel="/in/ter/")
    assert config.images is not None and config.images.path == Path("/srv/x")


def test_pictures_in_s3(read: Callable[..., Config], tmp_path: Path) -> None:
    images = read(ONE + '[images]\nurl = "s3://bucket.x/a/b/?region=eu-central-1"\ntimeout = "5s"\n').images
    assert images is not None and images.path == tmp_path / "state/images"
    assert images.account == Account(Bucket("bucket.x", "a/b/", "eu-central-1", None, "path"), timeout=5.0)
    keys = 'access_key = "env:A"\nsecret_key = "env:B"\nspool = "here"\n'
    config = read(f'{ONE}[images]\nurl = "s3://bucket?endpoint=https%3A//h:9/x/"\n{keys}', A=KEY, B=KEY)
    images = config.images
    assert images is not None and images.path == tmp_path / "here" and KEY not in repr(config)
    assert images.account == Account(Bucket("bucket", "", "us-east-1", "https://h:9/x", "path"), *[Secret(KEY)] * 2)
    for url, style in (
        ("s3://bucket?region=r", "virtual"),
        ("s3://bucket?region=r&style=path", "path"),
        ("s3://bucket?endpoint=http://127.0.0.1:9000", "path"),
        ("s3://bucket?region=auto&endpoint=https://id.r2.cloudflarestorage.com", "path"),
        ("s3://bucket?region=oss-cn-hangzhou&endpoint=https://s3.oss-cn-hangzhou.aliyuncs.com", "virtual"),
        ("s3://bucket-1250000000?region=ap-tokyo&endpoint=https://cos.ap-tokyo.myqcloud.com", "virtual"),
        ("s3://bucket?endpoint=https://h&style=virtual", "virtual"),
    ):
        assert Bucket.parse(url).style == style, url


def test_pictures_in_s3_need_a_client(said: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.core.check.find_spec", lambda name: None)
    assert said(ONE + '[images]\nurl = "s3://bucket?region=r"\n') == [
        "images.url: pictures in S3 need aiobotocore, which is missing; pip install 'framegate[s3]'"
    ]


def test_a_route_that_rehosts_needs_no_table(read: Callable[..., Config]) -> None:
    text = f'{ONE}[plugins.r]\nuse = "{HERE}:Rehost"\n'
    assert read(text + '[[routes]]\nmatch = "* /v1/*"\nchain = []\n').images is None
    images = read(text + '[[routes]]\nmatch = "* /v1/*"\nchain = ["r"]\n').images
    assert images is not None and images.url.endswith("/state/images")


# --- Keys and credentials


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (
            'models = { "gpt-*" = "x" }',
            "models: 'gpt-*' is no exact name; globs such as '*' are for only, not here",
        ),
        (
            'models = { "gpt-5" = "x[1]" }',
            "models: 'x[1]' is no exact name; globs such as '*' are for only, not here",
        ),
        ('models = { "a" = "b c" }', "models: 'b c' is no name of a model; it must hold no blank and no comma"),
        ('models = { "" = "b" }', "models: '' is no name of a model; it must hold no blank and no comma"),
        ('models = ["a"]', None),
        ('only = ["a,b"]', "only: 'a,b' is no name of a model; it must hold no blank and no comma"),
        ('only = ["kind:images"]', "only: there is no kind 'images'; did you mean 'image'?"),
        (
            'only = ["gpt-*"]\nmodels = { "flux" = "b" }',
            "models renames 'flux', which is not among those that only lists; add it there",
        ),
    ],
)
def test_names_of_models_are_complained_of_in_words(
    said: Callable[..., list[str]], line: str, complaint: str | None
) -> None:
    told = said(ONE + line + "\n")
    assert len(told) == 1 and told[0].startswith("upstreams.openai")
    assert complaint is None or told == [f"upstreams.openai: {complaint}"]


def test_an_upstreams_layers_are_drawn_with_its_model_names(read: Callable[..., Config]) -> None:
    for line in ('only = ["kind:image"]', 'models = { "a" = "b" }', 'models = { "a" = "b" }\nonly = ["a*"]'):
        config = read(ONE + line + "\n")
        assert config.upstreams["openai"].layers == ("model names", "credential", "wire")
        assert config.pictures() == ["* /v1/*   (no plugins) || openai: model names > credential > wire"]


def test_an_upstream_with_limits_has_a_queue(read: Callable[..., Config], said: Callable[..., list[str]]) -> None:
    config = read(ONE + 'only = ["a*"]\nlimits = { images = "5 / 1m" }\nqueue = { wait = "30s" }\n')
    assert config.upstreams["openai"].queue == QueueTable(1000, 30.0) and config.unbuilt == ()
    assert config.pictures() == ["* /v1/*   (no plugins) || openai: queue > model names > credential > wire"]
    for line, complaint in (
        (
            "queue = { length = 5 }",
            "queue: nobody waits for an upstream without limits; give it limits, or take queue out",
        ),
        (
            'limits = { budget = "5 USD / day" }',
            "limits: a budget is for those who ask, not for an upstream; give it to a key or a group",
        ),
    ):
        assert said(f"{ONE}{line}\n") == [f"upstreams.openai: {complaint}"]
    for table, complaint in (
        ("length = 0", "length must be at least 1"),
        ('wait = "0s"', "wait must be longer than nothing"),
    ):
        told = said(f"{ONE}limits = {{ concurrent = 5 }}\nqueue = {{ {table} }}\n")
        assert told == [f"upstreams.openai.queue: {complaint}"]


def test_a_keys_models_are_globs(read: Callable[..., Config], said: Callable[..., list[str]]) -> None:
    key = '[keys.a]\nsecret = "env:MARKETING_KEY"\nmodels = '
    assert read(ONE + key + '["gpt-image-*", "o[34]"]\n').keys["a"].models == ("gpt-image-*", "o[34]")
    assert said(ONE + key + '["a b"]\n') == [
        "keys.a: models: 'a b' is no name of a model; it must hold no blank and no comma"
    ]


def test_a_short_key_is_told_of(read: Callable[..., Config]) -> None:
    text = '[keys.{}]\nsecret = "env:{}"\n'
    config = read(ONE + text.format("a", "LONG") + text.format("b", "SHORT"), LONG="x" * 32, SHORT="x" * 31)
    assert config.short_keys == ("b",)


def test_credentials_name_an_upstream(said: Callable[..., list[str]]) -> None:
    text = '[groups.g]\ncredentials = { opnai = "env:MARKETING_KEY" }\n'
    assert said(ONE + text) == ["groups.g.credentials.opnai: no such upstream 'opnai'; did you mean 'openai'?"]


def test_credentials_of_callers_alone_make_an_upstream_one_with_a_credential(read: Callable[..., Config]) -> None:
    text = '[upstreams.a]\nbase_url = "https://a.example/v1"\n[groups.g]\ncredentials = { a = "env:MARKETING_KEY" }\n'
    assert read(text).has_credential("a") and not read(text.partition("[groups")[0]).has_credential("a")
