// Functions of the host's, by name: each call is a frame, and a promise until its return has come.
'use strict'

const { Buffer } = require('buffer')
const process = require('process')
const channel = require('./channel.cjs')
const values = require('./values.cjs')

const { Error, Map, Object, Promise } = globalThis

const waiting = new Map() // by number: what settles the call
let numbers = 0
let limit = 0
const offered = new Set()

function offer (tools, mostBytes) {
  limit = mostBytes
  for (const { name, description, parameters } of tools) {
    if (offered.has(name) && globalThis[name]?.isTool) continue
    const tool = (...args) => call(name, args)
    Object.defineProperty(tool, 'name', { value: name })
    tool.isTool = true
    tool.description = description ?? ''
    tool.parameters = parameters
    tool.toString = () => `function ${name}(${(parameters ?? ['...args']).join(', ')}) { [tool of the host] }`
    globalThis[name] = tool
    offered.add(name)
  }
}

function call (name, args) {
  const { text, buffers, tagged } = values.encode([args, {}], limit)
  const number = ++numbers
  const title = Buffer.from(name)
  const head = Buffer.alloc(6)
  head.writeUInt32LE(number, 0)
  head.writeUInt16LE(title.length, 4)
  channel.send(channel.CALL, tagged ? channel.TAGGED : 0, Buffer.concat([head, title, text]), buffers)
  const promise = new Promise((resolve, reject) => waiting.set(number, { resolve, reject }))
  if (!channel.isReading()) listen()
  return promise
}

async function listen () {
  while (waiting.size) {
    const frame = await channel.read()
    if (frame.kind !== channel.RETURN) process.reallyExit(71)
    settle(frame)
  }
}

function settle (frame) {
  const { envelope, values: text, buffers } = channel.opened(frame)
  const call = waiting.get(envelope.number)
  waiting.delete(envelope.number)
  if (call === undefined) return
  if (!envelope.failed) return call.resolve(values.decode(text, buffers, envelope.tagged).result)
  const error = new Error(envelope.message)
  error.name = envelope.type
  call.reject(error)
}

module.exports = { offer }
