// Observers, memoization, currying and an undoable store; runs on any engine, and its last check does not hold.
function createStore (reducer, initial) {
  const past = []
  let state = initial
  const listeners = new Set()
  return {
    getState: () => state,
    dispatch (action) {
      past.push(state)
      state = reducer(state, action)
      listeners.forEach((listener) => listener(state, action))
    },
    undo () { if (past.length) state = past.pop() },
    subscribe (listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    }
  }
}

function reducer (state = { todos: [] }, { type, ...payload }) {
  switch (type) {
    case 'add': return { ...state, todos: [...state.todos, { text: payload.text, done: false }] }
    case 'toggle': return { ...state, todos: state.todos.map((todo, i) => i === payload.index ? { ...todo, done: !todo.done } : todo) }
    default: throw new TypeError(`Unknown action: ${type}`)
  }
}

const memoize = (fn, cache = new Map()) => (n) => cache.has(n) ? cache.get(n) : cache.set(n, fn(n)).get(n)
const curry = (fn) => function curried (...args) {
  return args.length >= fn.length ? fn(...args) : (...more) => curried(...args, ...more)
}

const process = memoize((n) => n < 2n ? n : process(n - 1n) + process(n - 2n))
const store = createStore(reducer, { todos: [] })
const log = []
const stop = store.subscribe((state, { type }) => log.push(`${type}:${state.todos.length}`))
store.dispatch({ type: 'add', text: 'write' })
store.dispatch({ type: 'add', text: 'test' })
store.dispatch({ type: 'toggle', index: 0 })
stop()
store.undo()

console.log(log.join(' '), String(process(90n)), curry((a, b, c) => a + b + c)(1)(2)(3))

const checks = {
  'two are left': store.getState().todos.length === 2,
  'none is done': store.getState().todos.every(({ done }) => !done)
}
for (const [name, holds] of Object.entries(checks)) console.log(`${holds ? 'ok' : 'not ok'} ${name}`)
store.dispatch({ type: 'remove' })
