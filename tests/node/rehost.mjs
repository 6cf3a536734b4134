// Asks in five ways with the official SDK, for base64 and for URLs: node rehost.mjs BASE_URL KEY. It prints what came of
// each, as {way: [[base64 ...], [URL ...]]}.
import { File } from 'node:buffer';
import OpenAI, { toFile } from 'openai';

globalThis.File ??= File; // Node 18 has it, but not as a global

const client = new OpenAI({ baseURL: process.argv[2], apiKey: process.argv[3], maxRetries: 0 });
const pixel = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
);
const tea = { model: 'gpt-image-2', prompt: 'tea', size: '64x64' };
const draw = { model: 'gpt-5-mini', input: 'tea', tool_choice: { type: 'image_generation' } };
const asked = (url) => (url ? { response_format: 'url' } : {});
const tool = (url) => ({ type: 'image_generation', size: '64x64', ...asked(url) });
const one = (url) => (item) => (url ? item.url : item.b64_json);
const results = (items) => items.filter((item) => item.type === 'image_generation_call').map((item) => item.result);

const ways = {
  async generate(url) {
    return (await client.images.generate({ ...tea, n: 4, ...asked(url) })).data.map(one(url));
  },
  async edit(url) {
    const image = [await toFile(pixel, '0.png', { type: 'image/png' }), await toFile(pixel, '1.png', { type: 'image/png' })];
    return (await client.images.edit({ ...tea, image, ...asked(url) })).data.map(one(url));
  },
  async stream(url) {
    const events = [];
    for await (const event of await client.images.generate({ ...tea, stream: true, partial_images: 3, ...asked(url) })) {
      events.push(event);
    }
    if (events.length !== 4 || !events.slice(0, 3).every((event) => event.b64_json)) return [];
    return [one(url)(events[3])];
  },
  async responses(url) {
    return results((await client.responses.create({ ...draw, tools: [tool(url)] })).output);
  },
  async 'responses-stream'(url) {
    const found = [];
    for await (const event of await client.responses.create({ ...draw, tools: [tool(url)], stream: true })) {
      if (event.type === 'response.output_item.done') found.push(...results([event.item]));
      if (event.type === 'response.completed') found.push(...results(event.response.output));
    }
    return found.length === 2 && found[0] === found[1] ? found.slice(1) : [];
  },
};

const told = {};
for (const [way, ask] of Object.entries(ways)) told[way] = [await ask(false), await ask(true)];
console.log(JSON.stringify(told));
