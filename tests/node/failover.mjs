// Asks in six ways with the official SDK, its own retries on: node failover.mjs < CASES. Each line of CASES is a base URL
// and a way of asking; each line printed is what a program was left with, in a word.
import { createInterface } from 'node:readline';
import { File } from 'node:buffer';
import OpenAI, { toFile } from 'openai';

globalThis.File ??= File; // Node 18 has it, but not as a global

const PNG = 'iVBORw0KGgo';
const drawn = (encoded) => (!encoded ? 'nothing' : encoded.startsWith(PNG) && whole(encoded) ? 'answer' : 'junk');
const whole = (encoded) => Buffer.from(encoded, 'base64').toString('base64') === encoded;
const pixel = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
);
const file = (name) => toFile(pixel, name, { type: 'image/png' });
const tea = { model: 'gpt-image-2', prompt: 'tea', size: '64x64' };
const hello = { model: 'gpt-5-mini', messages: [{ role: 'user', content: 'hello' }] };

const ways = {
  async generate(client) {
    const answer = await client.images.generate(tea);
    return answer.data?.length ? drawn(answer.data[0].b64_json) : 'nothing';
  },
  async edit(client) {
    const image = [await file('0.png'), await file('1.png'), await file('2.png')];
    const answer = await client.images.edit({ ...tea, image });
    return answer.data?.length ? drawn(answer.data[0].b64_json) : 'nothing';
  },
  async 'images-sse'(client) {
    let last = null;
    for await (const event of await client.images.generate({ ...tea, stream: true, partial_images: 2 })) last = event;
    if (last === null) return 'nothing';
    return last.type === 'image_generation.completed' ? drawn(last.b64_json) : 'no end';
  },
  async responses(client) {
    const answer = await client.responses.create({
      model: 'gpt-5-mini',
      input: 'tea',
      tools: [{ type: 'image_generation', size: '64x64' }],
      tool_choice: { type: 'image_generation' },
    });
    const call = (answer.output ?? []).find((item) => item.type === 'image_generation_call');
    return call ? drawn(call.result) : 'nothing';
  },
  async chat(client) {
    const answer = await client.chat.completions.create(hello);
    return answer.choices?.[0]?.message?.content ? 'answer' : 'nothing';
  },
  async 'chat-sse'(client) {
    let words = 0;
    let finish = null;
    for await (const chunk of await client.chat.completions.create({ ...hello, stream: true })) {
      for (const choice of chunk.choices ?? []) {
        words += choice.delta.content ? 1 : 0;
        finish = choice.finish_reason ?? finish;
      }
    }
    return words ? (finish ? 'answer' : 'no end') : 'nothing';
  },
};

async function ask(base, way) {
  const client = new OpenAI({ baseURL: base, apiKey: 'sk-mine', timeout: 20_000 });
  try {
    return await ways[way](client);
  } catch (error) {
    if (error instanceof OpenAI.APIConnectionError) return 'cut';
    if (error instanceof OpenAI.APIError) return error.status ? `${error.status} ${error.code ?? 'None'}` : `error ${error.code}`;
    return error.message === 'terminated' ? 'cut' : error.name; // what fetch says of an answer that broke off
  }
}

const cases = [];
for await (const line of createInterface({ input: process.stdin })) cases.push(line.split(' '));
const said = new Array(cases.length);
let next = 0;
const worker = async () => {
  while (next < cases.length) {
    const at = next++;
    said[at] = await ask(...cases[at]);
  }
};
await Promise.all(Array.from({ length: 16 }, worker));
for (const one of said) console.log(one);
