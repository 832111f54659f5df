// An async queue with bounded concurrency, retries and timeouts, as a module; node:assert says whether it holds.
import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const __filename = fileURLToPath(import.meta.url)

export class TaskQueue extends EventEmitter {
  #running = 0
  #pending = []

  constructor ({ concurrency = 2, retries = 1 } = {}) {
    super()
    this.concurrency = concurrency
    this.retries = retries
    this.peak = 0
  }

  add (task) {
    const { promise, resolve, reject } = Promise.withResolvers()
    this.#pending.push({ task, resolve, reject, left: this.retries })
    this.#next()
    return promise
  }

  #next () {
    while (this.#running < this.concurrency && this.#pending.length) {
      this.#running++
      this.peak = Math.max(this.peak, this.#running)
      this.#run(this.#pending.shift())
    }
  }

  async #run (job) {
    try {
      job.resolve(await job.task())
    } catch (error) {
      if (job.left-- > 0) this.#pending.push(job)
      else job.reject(error)
    } finally {
      this.#running--
      if (this.#running === 0 && this.#pending.length === 0) this.emit('idle')
      this.#next()
    }
  }
}

async function * countdown (from) {
  for (let n = from; n > 0; n--) {
    await delay(1)
    yield n
  }
}

const queue = new TaskQueue({ concurrency: 3 })
const idle = once(queue, 'idle')
const results = await Promise.all([5, 1, 3].map((ms) => queue.add(async () => { await delay(ms); return ms })))
await idle
assert.deepEqual(results, [5, 1, 3])
assert.equal(queue.peak, 3)

let attempts = 0
assert.equal(await queue.add(async () => { if (++attempts < 2) throw new Error('flaky'); return 'done' }), 'done')
await assert.rejects(queue.add(async () => { throw new RangeError('never') }), RangeError)

const counted = []
for await (const n of countdown(3)) counted.push(n)
assert.deepEqual(counted, [3, 2, 1])
console.log(`${__filename.split('/').at(-1)}: all assertions hold`)

const summary = { results, attempts, counted }
export default summary
