// Two callers at once by the official SDK: node interleave.mjs BASE_URL COUNT, their keys in WEB and CI. Prints how many
// answers were the caller's own.
import { File } from 'node:buffer';
import OpenAI from 'openai';

globalThis.File ??= File; // Node 18 has it, but not as a global

const [base, count] = process.argv.slice(2);
const clients = [process.env.WEB, process.env.CI_KEY].map((apiKey) => new OpenAI({ baseURL: base, apiKey, maxRetries: 0 }));
let own = 0;

async function ask(number) {
  const prompt = `${'ab'[number % 2]}-node-${number}`;
  const answer = await clients[number % 2].images.generate({ model: 'gpt-image-2', prompt });
  own += answer.data[0].b64_json === prompt;
}

for (let number = 0; number < Number(count); number += 25)
  await Promise.all(Array.from({ length: Math.min(25, count - number) }, (_, one) => ask(number + one)));
console.log(own);
