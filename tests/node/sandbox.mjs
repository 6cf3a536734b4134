// The examples of the official SDK's own documentation against the sandbox: node sandbox.mjs BASE_URL. Looks at the shape
// of each answer and prints the names of those that were right; the first that is wrong ends it with an error.
import assert from 'node:assert/strict';
import { File } from 'node:buffer';
import OpenAI, { toFile } from 'openai';

globalThis.File ??= File; // Node 18 has it, but not as a global

const client = new OpenAI({ baseURL: process.argv[2], apiKey: 'sk-me', maxRetries: 0 });
const PNG = Buffer.from('iVBORw0KGgo', 'base64').subarray(0, 8);
const draw = { type: 'image_generation', size: '128x128', quality: 'low' };
const weather = {
  type: 'object',
  properties: { location: { type: 'string' } },
  required: ['location'],
  additionalProperties: false,
};

async function collect(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

function isPng(b64) {
  assert.deepEqual(Buffer.from(b64, 'base64').subarray(0, 8), PNG);
}

function addsUp(usage) {
  assert.equal(usage.total_tokens, usage.input_tokens + usage.output_tokens);
  assert.ok(usage.input_tokens > 0 && usage.output_tokens > 0);
}

async function refused(asked, kind, code) {
  await assert.rejects(asked, (error) => {
    assert.ok(error instanceof kind, String(error));
    assert.equal(error.code, code);
    assert.match(error.requestID, /^req_/);
    return true;
  });
}

const pictureOf = (response) => response.output.find((item) => item.type === 'image_generation_call');

const examples = {
  async models() {
    const names = (await collect(client.models.list())).map((model) => model.id);
    assert.ok(names.includes('gpt-image-2') && names.includes('omni-moderation-latest'));
    assert.equal((await client.models.retrieve('gpt-image-2')).object, 'model');
  },

  async images() {
    const answer = await client.images.generate({ model: 'gpt-image-2', prompt: 'a fox', size: '128x128', n: 2 });
    assert.equal(answer.data.length, 2);
    answer.data.forEach((image) => isPng(image.b64_json));
    addsUp(answer.usage);
  },

  async images_stream() {
    const asked = { model: 'gpt-image-2', prompt: 'a fox', size: '128x128', stream: true, partial_images: 2 };
    const events = await collect(await client.images.generate(asked));
    assert.deepEqual(
      events.map((event) => event.type),
      ['image_generation.partial_image', 'image_generation.partial_image', 'image_generation.completed'],
    );
    events.forEach((event) => isPng(event.b64_json));
    addsUp(events[2].usage);
  },

  async images_edit() {
    const made = await client.images.generate({ model: 'gpt-image-2', prompt: 'a fox', size: '64x64' });
    const png = Buffer.from(made.data[0].b64_json, 'base64');
    const file = (name) => toFile(png, name, { type: 'image/png' });
    const image = [await file('a.png'), await file('b.png')];
    const one = await client.images.edit({ model: 'gpt-image-2', image: image[0], prompt: 'a hat', size: '64x64' });
    const two = await client.images.edit({ model: 'gpt-image-2', image, prompt: 'a hat', size: '64x64' });
    isPng(one.data[0].b64_json);
    assert.notEqual(one.data[0].b64_json, two.data[0].b64_json);
    assert.equal(two.usage.input_tokens_details.image_tokens, 2 * one.usage.input_tokens_details.image_tokens);
  },

  async chat() {
    const completion = await client.chat.completions.create({
      model: 'gpt-5.5',
      messages: [
        { role: 'developer', content: 'Talk like a pirate.' },
        { role: 'user', content: 'Are semicolons optional in JavaScript?' },
      ],
    });
    assert.match(completion.choices[0].message.content, /Are semicolons optional in JavaScript\?$/);
    assert.equal(completion.usage.total_tokens, completion.usage.prompt_tokens + completion.usage.completion_tokens);
    assert.match(completion._request_id, /^req_/);
  },

  async chat_stream() {
    const messages = [{ role: 'user', content: 'Say this is a test, in several words' }];
    const chunks = await collect(await client.chat.completions.create({ model: 'gpt-5.5', messages, stream: true }));
    const text = chunks.map((chunk) => chunk.choices[0]?.delta?.content ?? '').join('');
    assert.match(text, /Say this is a test, in several words$/);
    assert.ok(chunks.length > 4);
    const whole = await client.chat.completions.stream({ model: 'gpt-5.5', messages }).finalChatCompletion();
    assert.equal(whole.choices[0].message.content, text);
  },

  async chat_tools() {
    const asked = [];
    const runner = client.chat.completions.runTools({
      model: 'gpt-5.5',
      messages: [{ role: 'user', content: 'Boston' }],
      tool_choice: { type: 'function', function: { name: 'getWeather' } },
      tools: [
        {
          type: 'function',
          function: {
            name: 'getWeather',
            parse: JSON.parse,
            parameters: weather,
            function: ({ location }) => asked.push(location) && 'rain',
          },
        },
      ],
    });
    await runner.done();
    assert.deepEqual(asked, ['Boston']);
  },

  async chat_json() {
    const schema = { name: 'weather', strict: true, schema: weather };
    const completion = await client.chat.completions.parse({
      model: 'gpt-5.5',
      messages: [{ role: 'user', content: 'Boston' }],
      response_format: { type: 'json_schema', json_schema: schema },
    });
    assert.deepEqual(JSON.parse(completion.choices[0].message.content), { location: 'Boston' });
  },

  async responses() {
    const response = await client.responses.create({
      model: 'gpt-5.5',
      instructions: 'You are a coding assistant that talks like a pirate',
      input: 'Are semicolons optional in JavaScript?',
    });
    assert.match(response.output_text, /Are semicolons optional in JavaScript\?$/);
    addsUp(response.usage);
    assert.equal((await client.responses.retrieve(response.id)).output_text, response.output_text);
    await client.responses.delete(response.id);
    await refused(client.responses.retrieve(response.id), OpenAI.NotFoundError, null);
  },

  async responses_vision() {
    const made = await client.images.generate({ model: 'gpt-image-2', prompt: 'a fox', size: '64x64' });
    const image_url = `data:image/png;base64,${made.data[0].b64_json}`;
    const content = [
      { type: 'input_text', text: 'What is in this image?' },
      { type: 'input_image', detail: 'auto', image_url },
    ];
    const response = await client.responses.create({ model: 'gpt-5.5', input: [{ role: 'user', content }] });
    assert.match(response.output_text, /\[image 64x64 png\]$/);
    content[1].image_url = 'https://example.com/a.jpg';
    const far = client.responses.create({ model: 'gpt-5.5', input: [{ role: 'user', content }] });
    await refused(far, OpenAI.BadRequestError, 'invalid_image_url');
  },

  async responses_stream() {
    const input = 'Say "Sheep sleep deep" ten times fast!';
    const events = await collect(await client.responses.create({ model: 'gpt-5.5', stream: true, input }));
    assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);
    assert.equal(events.at(-1).type, 'response.completed');
    const final = await client.responses.stream({ model: 'gpt-5.5', input }).finalResponse();
    assert.match(final.output_text, /ten times fast!$/);
  },

  async responses_image() {
    const input = 'Generate an image of gray tabby cat hugging an otter';
    const first = await client.responses.create({ model: 'gpt-5.5', input, tools: [draw] });
    isPng(pictureOf(first).result);
    addsUp(first.tool_usage.image_gen);
    const more = { model: 'gpt-5.5', previous_response_id: first.id, tools: [{ ...draw, partial_images: 2 }] };
    const events = await collect(
      await client.responses.create({ ...more, input: 'Now make it look realistic', stream: true }),
    );
    const partials = events.filter((event) => event.type === 'response.image_generation_call.partial_image');
    assert.deepEqual(partials.map((event) => event.partial_image_index), [0, 1]);
    partials.forEach((event) => isPng(event.partial_image_b64));
    const last = pictureOf(events.at(-1).response);
    assert.equal(last.action, 'edit');
    isPng(last.result);
    assert.notEqual(last.result, pictureOf(first).result);
  },

  async responses_tools() {
    const tool = { type: 'function', name: 'getWeather', strict: true, parameters: weather };
    const asked = { model: 'gpt-5.5', tools: [tool], tool_choice: 'required', input: 'Boston' };
    const response = await client.responses.parse(asked);
    assert.equal(response.output[0].type, 'function_call');
    assert.deepEqual(JSON.parse(response.output[0].arguments), { location: 'Boston' });
    const output = { type: 'function_call_output', call_id: response.output[0].call_id, output: 'rain' };
    const next = { model: 'gpt-5.5', previous_response_id: response.id, input: [output] };
    assert.match((await client.responses.create(next)).output_text, /rain$/);
  },

  async moderations() {
    const one = await client.moderations.create({ model: 'omni-moderation-latest', input: 'flag:violence' });
    assert.deepEqual([one.results[0].flagged, one.results[0].categories.violence], [true, true]);
    assert.equal(Object.keys(one.results[0].category_scores).length, 13);
    const made = await client.images.generate({ model: 'gpt-image-2', prompt: 'a fox', size: '64x64' });
    const url = `data:image/png;base64,${made.data[0].b64_json}`;
    const input = [{ type: 'text', text: 'a fox' }, { type: 'image_url', image_url: { url } }];
    const both = await client.moderations.create({ model: 'omni-moderation-latest', input });
    assert.equal(both.results.length, 1);
    assert.equal(both.results[0].flagged, false);
    assert.deepEqual(both.results[0].category_applied_input_types.sexual, ['text', 'image']);
  },

  async embeddings() {
    const input = ['a fox', 'a hat'];
    const model = 'text-embedding-3-small';
    const packed = await client.embeddings.create({ model, input, dimensions: 64 }); // base64 on the wire
    const plain = await client.embeddings.create({ model, input, dimensions: 64, encoding_format: 'float' });
    assert.equal(packed.data.length, 2);
    packed.data[1].embedding.forEach((number, at) => assert.ok(Math.abs(number - plain.data[1].embedding[at]) < 1e-6));
    assert.equal(packed.data[1].embedding.length, 64);
  },

  async files() {
    const made = await client.files.create({ purpose: 'batch', file: await toFile(Buffer.from('{"a": 1}\n'), 'a.jsonl') });
    assert.deepEqual([made.filename, made.bytes, made.purpose], ['a.jsonl', 9, 'batch']);
    assert.equal(await (await client.files.content(made.id)).text(), '{"a": 1}\n');
    assert.deepEqual((await collect(client.files.list())).map((file) => file.id), [made.id]);
    assert.equal((await client.files.delete(made.id)).deleted, true);
  },

  async refusals() {
    const messages = [{ role: 'user', content: 'hi' }];
    await refused(client.chat.completions.create({ model: 'gpt-1', messages }), OpenAI.NotFoundError, 'model_not_found');
    await refused(client.responses.create({ model: 'gpt-5.5', input: 'hi', colour: 1 }), OpenAI.BadRequestError, 'unknown_parameter');
  },
};

for (const [name, example] of Object.entries(examples)) {
  await example();
  console.log(name);
}
