// Functions of the host's, by name: each call is a frame, and a promise until its return has come. The host takes a few calls at
// once; a program may make thousands (`Promise.all` over a list, say), and those beyond wait here.
//
// While calls are under way the event loop reads the channel, and nobody else may: what comes beside returns, the next request of a
// session whose cell failed meanwhile, is handed to `execute`.
'use strict'

const { Buffer } = require('buffer')
const { setImmediate } = require('timers')
const channel = require('./channel.cjs')
const values = require('./values.cjs')

const { Error, Map, Object, Promise, Set, String, TypeError } = globalThis
const { captureStackTrace } = Error
const MOST = 32 // calls under way
const waiting = new Map() // by number: what settles the call
const queue = [] // frames of calls that are not yet under way
let numbers = 0
let limit = 0
const offered = new Set()
let listening = false
let settled = null // what waits for the last return
let execute = null

function handTo (taker) {
  execute = taker
}

function offer (tools, mostBytes) {
  limit = mostBytes
  for (const { name, description, parameters } of tools) {
    if (offered.has(name) && globalThis[name]?.isTool) continue
    const tool = (...args) => call(name, args, tool)
    Object.defineProperty(tool, 'name', { value: name })
    tool.isTool = true
    tool.description = description ?? ''
    tool.parameters = parameters
    tool.toString = () => `function ${name}(${(parameters ?? ['...args']).join(', ')}) { [tool of the host] }`
    globalThis[name] = tool
    offered.add(name)
  }
}

function call (name, args, tool) {
  const called = {} // where, for the errors that come back
  captureStackTrace(called, tool)
  const { text, buffers, tagged } = encoded(name, args, called)
  const number = ++numbers
  const title = Buffer.from(name)
  const head = Buffer.alloc(6)
  head.writeUInt32LE(number, 0)
  head.writeUInt16LE(title.length, 4)
  const promise = new Promise((resolve, reject) => waiting.set(number, { resolve, reject, called }))
  queue.push([channel.CALL, tagged ? channel.TAGGED : 0, Buffer.concat([head, title, text]), buffers])
  pass()
  if (!listening) listen()
  return promise
}

function encoded (name, args, called) {
  try {
    return values.encode([args, {}], limit)
  } catch (error) {
    if (values.TooLarge.is(error)) throw error
    throw placed(new TypeError(`${name} cannot be called with this: ${error.message}`), called)
  }
}

// An error as if it had been thrown where the tool was called.
function placed (error, called) {
  const frames = String(called.stack)
  const stack = `${error.name}: ${error.message}${frames.slice(frames.indexOf('\n'))}`
  return Object.defineProperty(error, 'stack', { value: stack, writable: true, configurable: true })
}

function pass () {
  while (queue.length && waiting.size - queue.length < MOST) channel.send(...queue.shift())
}

async function listen () {
  listening = true
  do {
    const frame = await channel.read()
    if (frame.kind === channel.RETURN) settle(frame)
    else execute(frame)
  } while (waiting.size)
  listening = false
}

// Once every call has its return, and who waited for that has had a word. At once where there is none.
function afterCalls (action) {
  if (waiting.size) settled = action
  else action()
}

// Nobody waits any more, and what is not yet under way is never called.
function forget () {
  settled = null
  queue.length = 0
  waiting.clear()
}

function settle (frame) {
  const { envelope, values: text, buffers } = channel.opened(frame)
  const call = waiting.get(envelope.number)
  if (!waiting.delete(envelope.number)) return
  pass()
  if (!waiting.size && settled) setImmediate(settled)
  if (!envelope.failed) return call.resolve(values.decode(text, buffers, envelope.tagged).result)
  const error = new Error(envelope.message)
  error.name = envelope.type
  call.reject(placed(error, call.called))
}

module.exports = { afterCalls, forget, handTo, offer, settle }
