// What a program shows: `display(value)`, or `display({'text/html': '...'})`, goes to the host as a bundle of MIME types.
'use strict'

const { Buffer } = require('buffer')
const fs = require('fs')
const { inspect } = require('util')
const channel = require('./channel.cjs')

const { Object, Uint8Array } = globalThis
const { stringify } = JSON

const MIME = /^[a-z0-9][\w!#$&^.+-]*\/[\w!#$&^.+-]+$/
const MOST = 1000 // displays of one run
const ALL = 4 // times the limit of one: the bytes of all displays of one run
let limit = 0
let count = 0
let room = 0

function begin (mostBytes) {
  limit = mostBytes
  count = 0
  room = ALL * mostBytes
}

function display (value) {
  const isBundle = value !== null && typeof value === 'object' && Object.keys(value).length > 0 && Object.keys(value).every((key) => MIME.test(key))
  show(isBundle ? value : { 'text/plain': typeof value === 'string' ? value : inspect(value) })
}

function show (bundle) {
  count += 1
  if (count > MOST + 1) return
  if (count === MOST + 1) bundle = { 'text/plain': `<more than ${MOST} displays; no more are shown>` }
  const contents = Object.entries(bundle).slice(0, 32).map(([mime, content]) => {
    const binary = content instanceof Uint8Array
    return [mime, binary, binary ? content : Buffer.from(typeof content === 'string' ? content : stringify(content) ?? '')]
  })
  const size = contents.reduce((sum, [,, raw]) => sum + raw.byteLength, 0)
  if (size > limit || size > room) return show({ 'text/plain': `<a display of ${size} bytes, which is more than is allowed>` })
  room -= size
  const offset = fs.fstatSync(1).size
  const told = { entries: contents.map(([mime, binary, raw]) => [mime, binary, raw.byteLength]), offset, metadata: {} }
  channel.send(channel.DISPLAY, 0, Buffer.from(stringify(told)), contents.map(([,, raw]) => raw))
}

module.exports = { begin, display }
