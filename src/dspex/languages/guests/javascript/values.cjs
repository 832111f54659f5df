// Values: out as JSON with tags and raw buffers, in from the same. What JSON can say exactly goes out in one call of JSON.stringify;
// whether it can is found by a walk, which is cheaper than tagging everything.
'use strict'

const DEPTH = 200
const SMALL = 1n << 63n

const { Buffer } = require('buffer')
const { Array, BigInt, Date, Error, Map, Number, Object, Set, String, WeakMap, WeakSet } = globalThis // a program may have its own
const { parse, stringify } = JSON

class NotCarried extends Error {}
class TooLarge extends Error {
  #ours = true
  static is (error) { return error !== null && typeof error === 'object' && #ours in error }
}

const { isDate, isMap, isSet, isAnyArrayBuffer, isUint8Array, isTypedArray, isDataView, isBoxedPrimitive, isPromise, isProxy, isRegExp } = require('util').types
const plainPrototypes = new Set([Object.prototype, null])
const isWellFormed = (text) => text.isWellFormed()

// Out: an object of its own class goes as its own fields, as JSON.stringify would have it.
function encode (value, limit) {
  if (isPlain(value, 0)) {
    const text = Buffer.from(stringify(value), 'utf8')
    if (text.length > limit) throw new TooLarge()
    return { text, buffers: [], tagged: false }
  }
  const buffers = []
  const text = Buffer.from(new Tagger(buffers, limit).tag(value, 0), 'utf8')
  const size = buffers.reduce((sum, buffer) => sum + buffer.byteLength, text.length)
  if (size > limit) throw new TooLarge()
  return { text, buffers, tagged: true }
}

function isPlain (value, depth) {
  switch (typeof value) {
    case 'string': return isWellFormed(value)
    case 'boolean': return true
    case 'number': return Number.isFinite(value) && !Object.is(value, -0) && (!Number.isInteger(value) || Number.isSafeInteger(value))
    case 'object': break
    default: return false
  }
  if (value === null) return true
  if (depth > DEPTH || isProxy(value)) return false
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) if (!isPlain(value[i], depth + 1)) return false
    return true
  }
  if (!plainPrototypes.has(Object.getPrototypeOf(value)) || 'toJSON' in value) return false
  for (const key of Object.keys(value)) {
    if (key.charCodeAt(0) === 126 || !isWellFormed(key) || !isPlain(value[key], depth + 1)) return false
  }
  return true
}

class Tagger {
  constructor (buffers, limit) {
    this.buffers = buffers
    this.limit = limit
    this.spent = 0
    this.end = 0
  }

  tag (value, depth) {
    if (depth > DEPTH) throw new NotCarried(`it is nested more than ${DEPTH} levels deep, or contains itself`)
    const said = this.say(value, depth)
    this.spent += said.length
    if (this.spent > (DEPTH + 1) * this.limit) throw new TooLarge()
    return said
  }

  say (value, depth) {
    switch (typeof value) {
      case 'undefined': return 'null'
      case 'boolean': return String(value)
      case 'number': return this.number(value)
      case 'bigint': return -SMALL <= value && value < SMALL ? String(value) : `{"~int":"${value < 0n ? '-' : ''}0x${(value < 0n ? -value : value).toString(16)}"}`
      case 'string': return this.text(value)
      case 'object': return value === null ? 'null' : this.object(value, depth)
    }
    throw new NotCarried(`a ${typeof value} cannot be carried`)
  }

  number (value) {
    if (Number.isFinite(value)) return Object.is(value, -0) ? '-0.0' : Number.isInteger(value) && !Number.isSafeInteger(value) ? float(value) : String(value)
    return `{"~float":"${Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf'}"}`
  }

  text (value) {
    if (isWellFormed(value)) return stringify(value)
    return `{"~str":[${value.split(/(?<=[\ud800-\udbff])(?=[\udc00-\udfff])/).map((part) => stringify(part)).join()}]}`
  }

  object (value, depth) {
    if (isProxy(value)) throw new NotCarried('a Proxy cannot be carried')
    if (Array.isArray(value)) return this.list(value, depth)
    if (isUint8Array(value)) return this.bytes(value)
    if (isAnyArrayBuffer(value)) return this.bytes(new Uint8Array(value))
    if (isTypedArray(value)) return this.list(Array.from(value), depth)
    if (isMap(value)) return this.map(Array.from(value), depth)
    if (isSet(value)) return `{"~set":${this.list(apart(Array.from(value)), depth)}}`
    if (isDate(value)) return this.date(value)
    if (isBoxedPrimitive(value)) return this.tag(value.valueOf(), depth)
    if (value instanceof Error || isRegExp(value) || isDataView(value) || isPromise(value) || value instanceof WeakMap || value instanceof WeakSet) {
      throw new NotCarried(`a ${nameOf(value)} cannot be carried`)
    }
    if (typeof value.toJSON === 'function') return this.tag(value.toJSON(), depth + 1)
    return this.fields(value, depth)
  }

  map (pairs, depth) {
    apart(pairs.map(([key]) => key))
    return `{"~dict":[${pairs.map(([key, item]) => `[${this.tag(key, depth + 1)},${this.tag(item, depth + 1)}]`).join()}]}`
  }

  list (items, depth) {
    if (items.length > this.limit) throw new TooLarge()
    return `[${Array.from(items, (item) => this.tag(item, depth + 1)).join()}]`
  }

  fields (value, depth) {
    const keys = Object.keys(value).filter((key) => typeof value[key] !== 'function')
    const tagged = keys.some((key) => key.startsWith('~') || !isWellFormed(key))
    const parts = keys.map((key) => `${tagged ? '[' : ''}${this.text(key)}${tagged ? ',' : ':'}${this.tag(value[key], depth + 1)}${tagged ? ']' : ''}`)
    return tagged ? `{"~dict":[${parts.join()}]}` : `{${parts.join()}}`
  }

  bytes (value) {
    const place = `{"~bytes":[${this.end},${value.byteLength}]}`
    this.buffers.push(value)
    this.end += value.byteLength
    return place
  }

  date (value) {
    if (Number.isNaN(value.getTime())) throw new NotCarried('an invalid Date cannot be carried')
    const year = value.getUTCFullYear()
    if (year < 1 || year > 9999) throw new NotCarried('a Date outside of the years 1 to 9999 cannot be carried')
    return `{"~datetime":["${value.toISOString().replace('Z', '+00:00')}",null,0]}`
  }
}

// Keys of a map or members of a set, all of which Python can hash and holds apart. Throws `NotCarried`.
function apart (keys) {
  const seen = new Set(keys.map(identity))
  if (seen.size < keys.length) throw new NotCarried('two keys that are one in Python (1 and true, say) cannot be carried')
  return keys
}

function identity (key) {
  switch (typeof key) {
    case 'string': return `text ${key}`
    case 'number': return `number ${Number.isInteger(key) ? BigInt(key) : key}`
    case 'boolean': return `number ${Number(key)}`
    case 'bigint': return `number ${key}`
    case 'undefined': return 'nothing'
  }
  if (key === null) return 'nothing'
  if (isDate(key)) return `date ${key.getTime()}`
  if (isUint8Array(key)) return `bytes ${Buffer.from(key).toString('latin1')}`
  throw new NotCarried(`a ${nameOf(key)} cannot be carried as a key`)
}

const float = (value) => { const text = String(value); return /[.e]/.test(text) ? text : `${text}.0` }

// The name of a value's type, as `result.value_type` has it.
function nameOf (value) {
  if (value === null) return 'null'
  if (typeof value !== 'object') return typeof value
  try {
    const name = Object.getPrototypeOf(value)?.constructor?.name
    return typeof name === 'string' && name ? name.slice(0, 200) : 'Object'
  } catch { return 'object' }
}

// In: what the host has encoded.
function decode (text, buffers, tagged) {
  return parse(text.toString('utf8'), tagged ? (_, value) => untagged(value, buffers) : undefined)
}

const FLOATS = { nan: NaN, inf: Infinity, '-inf': -Infinity }

function untagged (value, buffers) {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return value
  const keys = Object.keys(value)
  if (keys.length !== 1 || !keys[0].startsWith('~')) return value
  const content = value[keys[0]]
  switch (keys[0]) {
    case '~bytes': return new Uint8Array(buffers.subarray(content[0], content[0] + content[1]))
    case '~int': return content.startsWith('-') ? -BigInt(content.slice(1)) : BigInt(content)
    case '~float': return FLOATS[content]
    case '~str': return content.join('')
    case '~tuple': return content
    case '~set':
    case '~frozenset': return new Set(content)
    case '~dict': return new Map(content)
    case '~datetime': return new Date(content[0].length > 19 && /[+-]\d\d:\d\d|Z/.test(content[0].slice(19)) ? content[0] : `${content[0]}Z`)
    case '~date': return new Date(`${content}T00:00:00Z`)
  }
  throw new TypeError(`a value of kind ${keys[0].slice(1)} has no place in JavaScript`)
}

module.exports = { encode, decode, nameOf, TooLarge }
