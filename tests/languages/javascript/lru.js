// An LRU cache on a doubly linked list, with its own assertions. Runs on any engine.
class Node {
  constructor (key, value) {
    this.key = key
    this.value = value
    this.previous = this.next = null
  }
}

class LRUCache {
  #capacity
  #nodes = new Map()
  #head = new Node(null, null)
  #tail = new Node(null, null)

  constructor (capacity) {
    if (!Number.isInteger(capacity) || capacity < 1) throw new RangeError(`no capacity: ${capacity}`)
    this.#capacity = capacity
    this.#head.next = this.#tail
    this.#tail.previous = this.#head
  }

  get (key) {
    const node = this.#nodes.get(key)
    if (!node) return undefined
    this.#unlink(node)
    this.#push(node)
    return node.value
  }

  put (key, value) {
    if (this.#nodes.has(key)) this.#unlink(this.#nodes.get(key))
    const node = new Node(key, value)
    this.#nodes.set(key, node)
    this.#push(node)
    if (this.#nodes.size > this.#capacity) {
      const oldest = this.#tail.previous
      this.#unlink(oldest)
      this.#nodes.delete(oldest.key)
    }
    return this
  }

  * [Symbol.iterator] () {
    for (let node = this.#head.next; node !== this.#tail; node = node.next) yield [node.key, node.value]
  }

  get size () { return this.#nodes.size }

  #unlink (node) {
    node.previous.next = node.next
    node.next.previous = node.previous
  }

  #push (node) {
    node.next = this.#head.next
    node.previous = this.#head
    this.#head.next.previous = node
    this.#head.next = node
  }
}

function assert (condition, message) {
  if (!condition) throw new Error(`Assertion failed: ${message}`)
}

const cache = new LRUCache(2).put('a', 1).put('b', 2)
assert(cache.get('a') === 1, 'a is there')
cache.put('c', 3)
assert(cache.get('b') === undefined, 'b was the oldest')
assert(cache.size === 2, 'two are kept')

let refused = null
try {
  new LRUCache(0)
} catch (error) {
  refused = error
}
assert(refused instanceof RangeError, 'no cache without room')
console.log('All tests passed!')
Object.fromEntries(cache)
