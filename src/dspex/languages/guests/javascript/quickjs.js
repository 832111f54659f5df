// What programs on QuickJS find there, and how their values go out and in. Evaluated once, in the zygote; what Python does for it comes
// as `__host(verb, ...)`, which takes and gives texts and numbers.
(() => {
  'use strict'
  const host = globalThis.__host
  delete globalThis.__host
  const { stringify, parse } = JSON
  const DEPTH = 200
  const SMALL = 1n << 63n
  let buffers = []

  class NotCarried extends Error {}

  const nameOf = (value) => {
    if (value === null) return 'null'
    if (typeof value !== 'object') return typeof value
    const name = Object.getPrototypeOf(value)?.constructor?.name
    return typeof name === 'string' && name ? name : 'Object'
  }

  const text = (value) => value.isWellFormed()
    ? stringify(value)
    : `{"~str":[${value.split(/(?<=[\ud800-\udbff])(?=[\udc00-\udfff])/).map((part) => stringify(part)).join()}]}`

  const number = (value) => {
    if (!Number.isFinite(value)) return `{"~float":"${Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf'}"}`
    if (Object.is(value, -0)) return '-0.0'
    const said = String(value)
    return Number.isInteger(value) && !Number.isSafeInteger(value) && !/[.e]/.test(said) ? `${said}.0` : said
  }

  const integer = (value) => -SMALL <= value && value < SMALL
    ? String(value)
    : `{"~int":"${value < 0n ? '-' : ''}0x${(value < 0n ? -value : value).toString(16)}"}`

  const bytes = (value) => {
    buffers.push(Array.from(value, (byte) => String.fromCharCode(byte)).join(''))
    return `{"~bytes":${buffers.length - 1}}`
  }

  function say (value, depth) {
    switch (typeof value) {
      case 'undefined': return 'null'
      case 'boolean': return String(value)
      case 'number': return number(value)
      case 'bigint': return integer(value)
      case 'string': return text(value)
      case 'object': return value === null ? 'null' : object(value, depth)
    }
    throw new NotCarried(`a ${typeof value} cannot be carried`)
  }

  function object (value, depth) {
    if (depth > DEPTH) throw new NotCarried(`it is nested more than ${DEPTH} levels deep, or contains itself`)
    const list = (items) => `[${Array.from(items, (item) => say(item, depth + 1)).join()}]`
    if (Array.isArray(value)) return list(value)
    if (value instanceof Uint8Array) return bytes(value)
    if (value instanceof ArrayBuffer) return bytes(new Uint8Array(value))
    if (ArrayBuffer.isView(value)) return list(value)
    if (value instanceof Map) return `{"~dict":[${Array.from(value, (pair) => `[${say(pair[0], depth + 1)},${say(pair[1], depth + 1)}]`).join()}]}`
    if (value instanceof Set) return `{"~set":${list(value)}}`
    if (value instanceof Date) return `{"~datetime":["${value.toISOString().replace('Z', '+00:00')}",null,0]}`
    if (value instanceof Error || value instanceof RegExp || value instanceof Promise) throw new NotCarried(`a ${nameOf(value)} cannot be carried`)
    if (typeof value.toJSON === 'function') return say(value.toJSON(), depth + 1)
    return fields(value, depth)
  }

  function fields (value, depth) {
    const keys = Object.keys(value).filter((key) => typeof value[key] !== 'function')
    const tagged = keys.some((key) => key.startsWith('~') || !key.isWellFormed())
    const parts = keys.map((key) => tagged ? `[${text(key)},${say(value[key], depth + 1)}]` : `${text(key)}:${say(value[key], depth + 1)}`)
    return tagged ? `{"~dict":[${parts.join()}]}` : `{${parts.join()}}`
  }

  // The value as text with tags, and its bytes, a character each.
  function encode (value) {
    buffers = []
    return stringify([say(value, 0), buffers])
  }

  const FLOATS = { nan: NaN, inf: Infinity, '-inf': -Infinity }

  function untagged (_, value) {
    if (value === null || typeof value !== 'object' || Array.isArray(value)) return value
    const keys = Object.keys(value)
    if (keys.length !== 1 || !keys[0].startsWith('~')) return value
    const content = value[keys[0]]
    switch (keys[0]) {
      case '~bytes': return Uint8Array.from(content, (character) => character.charCodeAt(0))
      case '~int': return content.startsWith('-') ? -BigInt(content.slice(1)) : BigInt(content)
      case '~float': return FLOATS[content]
      case '~str': return content.join('')
      case '~tuple': return content
      case '~set':
      case '~frozenset': return new Set(content)
      case '~dict': return new Map(content)
      case '~datetime':
      case '~date': return new Date(Array.isArray(content) ? content[0] : content)
    }
    return value
  }

  const decode = (said, tagged) => tagged ? parse(said, untagged) : parse(said)

  function shown (value, depth = 0) {
    if (typeof value === 'string') return depth ? `'${value}'` : value
    if (typeof value === 'bigint') return `${value}n`
    if (typeof value === 'function') return `[Function: ${value.name || '(anonymous)'}]`
    if (typeof value !== 'object' || value === null) return String(value)
    if (value instanceof Error) return `${value.stack ? `${value}\n${value.stack}` : value}`.trimEnd()
    if (depth > 3) return Array.isArray(value) ? '[Array]' : '[Object]'
    if (Array.isArray(value)) return value.length ? `[ ${value.map((item) => shown(item, depth + 1)).join(', ')} ]` : '[]'
    const pairs = value instanceof Map ? [...value] : value instanceof Set ? [...value].map((item) => [item]) : Object.entries(value)
    const name = nameOf(value) === 'Object' ? '' : `${nameOf(value)} `
    return pairs.length ? `${name}{ ${pairs.map((pair) => pair.length === 1 ? shown(pair[0], depth + 1) : `${pair[0]}: ${shown(pair[1], depth + 1)}`).join(', ')} }` : `${name}{}`
  }

  const line = (descriptor) => (...values) => { host('write', descriptor, `${values.map((value) => shown(value)).join(' ')}\n`) }
  const out = line(1)
  const err = line(2)
  const answered = (said) => {
    const [failed, kind, message] = said === '' ? [false] : parse(said)
    if (!failed) return
    const error = new Error(message)
    error.name = kind
    throw error
  }

  globalThis.console = { log: out, info: out, debug: out, error: err, warn: err, trace: err, assert: (ok, ...said) => ok || err('Assertion failed:', ...said) }
  globalThis.display = (value) => { host('display', value !== null && typeof value === 'object' ? stringify(value) : stringify({ 'text/plain': shown(value) })) }
  globalThis.readFile = (path) => { const [said] = [host('read', path)]; if (said.startsWith('!')) answered(said.slice(1)); return said.slice(1) }
  globalThis.writeFile = (path, content) => answered(host('save', path, String(content)))
  globalThis.fileExists = (path) => host('exists', path) === 1

  class Exit extends Error {}
  globalThis.process = { exit: (code = 0) => { const exit = new Exit(String(code)); exit.name = 'SystemExit'; throw exit } }

  return {
    // The program of a fresh guest, whole: its value as text, and its type.
    run (code) {
      return this.told((0, eval)(code))
    },

    // What a value is told as: [type, text and bytes], or [type, null, words] for one that cannot cross.
    told (value) {
      if (value === undefined) return stringify(['undefined', '["null",[]]'])
      try {
        return stringify([nameOf(value), encode(value)])
      } catch (error) {
        if (!(error instanceof NotCarried)) throw error
        return stringify([nameOf(value), null, shown(value).slice(0, 2000)])
      }
    },

    // A promise's outcome, once its jobs are done.
    watch (value) {
      const state = { done: false }
      value.then((result) => { Object.assign(state, { done: true, result }) }, (error) => { Object.assign(state, { done: true, error, failed: true }) })
      return state
    },
    isPromise: (value) => value instanceof Promise,

    give (said, tagged) { Object.assign(globalThis, decode(said, tagged)) },

    offer (names) {
      for (const name of parse(names)) {
        globalThis[name] = (...args) => {
          const said = parse(host('call', name, encode([args, {}])))
          if (said.failed) answered(stringify([true, said.type, said.message]))
          return decode(said.value, true).result
        }
      }
    }
  }
})()
