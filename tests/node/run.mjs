// Runs one operation of the official SDK: node run.mjs BASE_URL OPERATION. Prints what the SDK made of the answer.
import { File } from 'node:buffer';
import OpenAI, { toFile } from 'openai';

globalThis.File ??= File; // Node 18 has it, but not as a global

const [base, name] = process.argv.slice(2);
const client = new OpenAI({ baseURL: base, apiKey: 'sk-me', organization: 'org-mine', project: null, maxRetries: 0 });
const picture = (name, fill, size) => toFile(Buffer.alloc(size, fill), name, { type: 'image/png' });

async function collect(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

const operations = {
  generate: () => client.images.generate({ model: 'gpt-image-2', prompt: 'ein Fuchs, rötlich' }, { headers: { 'Idempotency-Key': 'once-1' } }),
  generate_stream: async () => collect(await client.images.generate({ model: 'gpt-image-2', prompt: 'a fox', stream: true })),
  edit: async () => client.images.edit({ model: 'gpt-image-2', prompt: 'a hat', image: await picture('a.png', 1, 20000) }),
  edit_many: async () =>
    client.images.edit({
      model: 'gpt-image-2',
      prompt: 'a hat',
      image: [await picture('a.png', 1, 20000), await picture('b.png', 2, 300000), await picture('ä.png', 3, 1)],
      mask: await picture('m.png', 4, 1000),
    }),
  chat: () => client.chat.completions.create({ model: 'gpt-5-mini', messages: [{ role: 'user', content: 'Grüße, 世界' }] }),
  chat_stream: async () =>
    collect(await client.chat.completions.create({ model: 'gpt-5-mini', stream: true, messages: [{ role: 'user', content: 'hi' }] })),
  upload: async () => client.files.create({ purpose: 'batch', file: await toFile(Buffer.from('{"a": 1}\n'), 'a.jsonl') }),
};

console.log(JSON.stringify(await operations[name]()));
