"""Pages and files that are filled in and handed out; in the wheel this folder is `proxy.templates`."""
