// Frames on the channel, descriptor 3: read at once where nothing else can happen, else by the event loop.
'use strict'

const { Buffer } = require('buffer')
const fs = require('fs')
const process = require('process')

const { BigInt, Math, Number, Promise } = globalThis
const { parse } = JSON

const CHANNEL = 3
const HEADER = 16
const EXECUTE = 1
const RETURN = 3
const ANSWER = 16
const CALL = 18
const DISPLAY = 19
const READY = 20
const TAGGED = 1

let held = Buffer.alloc(0) // what was read behind the latest frame
let reading = null // a read under way on the event loop: whoever wants the next frame waits for it

function header (kind, flags, body, buffers) {
  const head = Buffer.alloc(HEADER)
  head.write('dx', 0, 'latin1')
  head[2] = kind
  head[3] = flags
  head.writeUInt32LE(body, 4)
  head.writeBigUInt64LE(BigInt(buffers), 8)
  return head
}

function send (kind, flags, body, buffers = []) {
  const size = buffers.reduce((sum, buffer) => sum + buffer.byteLength, 0)
  for (const part of [Buffer.concat([header(kind, flags, body.length, size), body]), ...buffers]) {
    for (let sent = 0; sent < part.byteLength;) sent += fs.writeSync(CHANNEL, part, sent)
  }
}

// The size of the frame that begins in what is held; less than a header tells nothing.
function wanted () {
  return held.length < HEADER ? HEADER : HEADER + held.readUInt32LE(4) + Number(held.readBigUInt64LE(8))
}

function cut () {
  const size = wanted()
  const end = HEADER + held.readUInt32LE(4)
  const frame = { kind: held[2], body: held.subarray(HEADER, end), buffers: held.subarray(end, size) }
  held = held.subarray(size)
  return frame
}

const complete = () => held.length >= HEADER && held.length >= wanted()

// The next frame; nothing else goes on meanwhile.
function readSync () {
  while (!complete()) {
    const room = Buffer.allocUnsafe(Math.max(65536, wanted() - held.length))
    let filled = 0
    const missing = wanted() - held.length
    while (filled < missing) {
      const got = fs.readSync(CHANNEL, room, filled, room.length - filled, null)
      if (got === 0) process.reallyExit(0)
      filled += got
    }
    held = held.length ? Buffer.concat([held, room.subarray(0, filled)]) : room.subarray(0, filled)
  }
  return cut()
}

// The next frame, while the event loop goes on.
function read () {
  reading ??= more().finally(() => { reading = null })
  return reading
}

async function more () {
  while (!complete()) {
    const room = Buffer.allocUnsafe(Math.max(65536, wanted() - held.length))
    const got = await new Promise((resolve, reject) => {
      fs.read(CHANNEL, room, 0, room.length, null, (error, count) => error ? reject(error) : resolve(count))
    })
    if (got === 0) process.reallyExit(0)
    held = Buffer.concat([held, room.subarray(0, got)])
  }
  return cut()
}

// The envelope in a body of the host's, and the text of the values behind it.
function opened (frame) {
  const end = 4 + frame.body.readUInt32LE(0)
  return { envelope: parse(frame.body.toString('utf8', 4, end)), values: frame.body.subarray(end), buffers: frame.buffers }
}

module.exports = {
  EXECUTE, RETURN, ANSWER, CALL, DISPLAY, READY, TAGGED,
  send, read, readSync, opened, isReading: () => reading !== null
}
