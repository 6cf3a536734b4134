// What somebody who uses the SDK hears of limits: `node quota.mjs BASE_URL KEY`.
import OpenAI from 'openai';

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 2 });
const ask = { model: 'gpt-image-2', prompt: 'tea', size: '64x64', quality: 'medium' };

const heard = async (work) => {
  try {
    await work();
    return 'fine';
  } catch (error) {
    const { status, code, type, param } = error;
    return { kind: error.constructor.name, status, code, type, param };
  }
};

const told = {};
told.first = await heard(() => client.images.generate(ask));
told.images = await heard(() => client.images.generate({ ...ask, n: 2 }));
told.never = await heard(() => client.images.generate({ ...ask, n: 8 }));
told.budget = await heard(() => client.images.generate({ ...ask, quality: 'high' }));
console.log(JSON.stringify(told));
