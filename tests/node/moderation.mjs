// What somebody who uses the SDK hears of moderation: `node moderation.mjs BASE_URL KEY PROMPT [PICTURE]`, the picture in base64.
import OpenAI, { toFile } from 'openai';
import { File } from 'node:buffer';

globalThis.File ??= File; // Node 18 has it, but not as a global

const [baseURL, apiKey, prompt, picture] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 2 });
const ask = { model: 'gpt-image-2', prompt, size: '64x64' };
const url = `data:image/png;base64,${picture}`;

const ways = {
  generate: () => client.images.generate(ask),
  stream: () => client.images.generate({ ...ask, stream: true }),
  edit: async () =>
    client.images.edit({ ...ask, prompt: 'tea', image: await toFile(Buffer.from(picture, 'base64'), 'a.png', { type: 'image/png' }) }),
  chat: () => client.chat.completions.create({ model: 'gpt-5-mini', messages: [{ role: 'user', content: prompt }] }),
  'chat-stream': () =>
    client.chat.completions.create({
      model: 'gpt-5-mini',
      messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url } }] }],
      stream: true,
    }),
  responses: () => client.responses.create({ model: 'gpt-5-mini', input: prompt }),
  'responses-stream': () => client.responses.create({ model: 'gpt-5-mini', input: prompt, stream: true }),
};

const told = {};
for (const [way, work] of Object.entries(ways)) {
  try {
    await work();
    told[way] = 'fine';
  } catch (error) {
    const { status, code, type } = error;
    told[way] = { kind: error.constructor.name, status, code, type, details: error.error?.moderation_details ?? null };
  }
}
console.log(JSON.stringify(told));
