// What programs on QuickJS find there, and how their values go out and in. Evaluated once, in the zygote; what Python does for it comes
// as `__host(verb, ...)`, which takes and gives texts and numbers.
(() => {
  'use strict'
  const host = globalThis.__host
  delete globalThis.__host
  const { Array, ArrayBuffer, BigInt, Boolean, DataView, Date, Error, InternalError, Map, Number, Object, Promise, RegExp, Set, SharedArrayBuffer, String, Uint16Array, Uint8Array, WeakMap, WeakSet } = globalThis
  const { stringify, parse } = JSON
  const { then } = Promise.prototype
  const { fromCharCode } = String
  const CHUNK = 8192 // characters that one call takes as arguments
  const DEPTH = 200
  const SMALL = 1n << 63n
  let buffers = []

  const UNSAID = [Error, RegExp, Promise, WeakMap, WeakSet]
  const BOXES = [Number, String, Boolean, BigInt]

  class NotCarried extends Error {}

  const nameOf = (value) => {
    if (value === null) return 'null'
    if (typeof value !== 'object') return typeof value
    try {
      const name = Object.getPrototypeOf(value)?.constructor?.name
      return typeof name === 'string' && name ? name.slice(0, 200) : 'Object'
    } catch { return 'object' }
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

  // Bytes as text: a character each, from U+0100 on, where JSON escapes none.
  function worded (value) {
    const codes = Uint16Array.from(value)
    for (let at = 0; at < codes.length; at++) codes[at] |= 256
    const parts = []
    for (let at = 0; at < codes.length; at += CHUNK) parts.push(fromCharCode.apply(null, codes.subarray(at, at + CHUNK)))
    return parts.join('')
  }

  const bytes = (value) => {
    buffers.push(worded(value))
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
    if (value instanceof ArrayBuffer || value instanceof SharedArrayBuffer) return bytes(new Uint8Array(value))
    if (value instanceof DataView || UNSAID.some((kind) => value instanceof kind)) throw new NotCarried(`a ${nameOf(value)} cannot be carried`)
    if (ArrayBuffer.isView(value)) return list(value)
    if (value instanceof Map) return `{"~dict":${list(apart([...value], ([key]) => key))}}`
    if (value instanceof Set) return `{"~set":${list(apart([...value], (key) => key))}}`
    if (value instanceof Date) return date(value)
    if (BOXES.some((kind) => value instanceof kind)) return say(value.valueOf(), depth)
    if (typeof value.toJSON === 'function') return say(value.toJSON(), depth + 1)
    return fields(value, depth)
  }

  function date (value) {
    const year = value.getUTCFullYear()
    if (!(year >= 1 && year <= 9999)) throw new NotCarried('a Date that is invalid or outside of the years 1 to 9999 cannot be carried')
    return `{"~datetime":["${value.toISOString().replace('Z', '+00:00')}",null,0]}`
  }

  // The items, whose keys Python can all hash and holds apart.
  function apart (items, keyOf) {
    if (new Set(items.map((item) => identity(keyOf(item)))).size < items.length) throw new NotCarried('two keys are one in Python')
    return items
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
    if (key instanceof Date) return `date ${key.getTime()}`
    if (key instanceof Uint8Array) return `bytes ${worded(key)}`
    throw new NotCarried(`a ${nameOf(key)} cannot be carried as a key`)
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

  function unworded (content) {
    const made = new Uint8Array(content.length)
    for (let at = 0; at < made.length; at++) made[at] = content.charCodeAt(at) & 255
    return made
  }

  function untagged (_, value) {
    if (value === null || typeof value !== 'object' || Array.isArray(value)) return value
    const keys = Object.keys(value)
    if (keys.length !== 1 || !keys[0].startsWith('~')) return value
    const content = value[keys[0]]
    switch (keys[0]) {
      case '~bytes': return unworded(content)
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

  const line = (descriptor) => (...values) => { host('write', descriptor, `${values.map((value) => shown(value)).join(' ')}\n`.toWellFormed()) }
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
  globalThis.process = {
    exit (code = 0) {
      host('exit', Number(code)) // of a fresh program nothing comes behind this
      const exit = new Exit(String(code))
      exit.name = 'SystemExit'
      throw exit
    }
  }

  // What a program shows of itself: getters, traps and `toString` may throw.
  function heard (say, otherwise) {
    try {
      return say()
    } catch {
      return otherwise
    }
  }

  const inWords = (value) => heard(() => shown(value).slice(0, 10000), 'what cannot be shown').toWellFormed()

  // An error as [mark, type, message, stack, the name of its class].
  function failed (error) {
    if (!heard(() => error instanceof Error, false)) return stringify(['!', nameOf(error), `Uncaught ${inWords(error)}`, '', ''])
    const text = (key) => heard(() => typeof error[key] === 'string' ? error[key] : inWords(error[key]), 'what cannot be shown').toWellFormed()
    return stringify(['!', text('name').slice(0, 200) || 'Error', text('message').slice(0, 10000), text('stack').slice(0, 20000), nameOf(error)])
  }

  let promised = null // what became of the promise that a program ended with

  return {
    // The program of a fresh guest, whole: its value as text, and its type.
    run (code) {
      try {
        return this.told((0, eval)(code))
      } catch (error) {
        return failed(error)
      }
    },

    // What a value is told as: [type, text and bytes], or [type, null, words] for one that cannot cross; of a promise nothing yet.
    told (value) {
      if (value === undefined) return stringify(['undefined', '["null",[]]'])
      if (value instanceof Promise) return this.watch(value)
      try {
        return stringify([nameOf(value), encode(value)])
      } catch (error) {
        if (error instanceof InternalError) throw error // the memory is full
        return stringify([nameOf(value), null, inWords(value).slice(0, 2000)])
      }
    },

    watch (value) {
      promised = failed(new Error('the program awaits what will never come'))
      then.call(value, (result) => { promised = this.told(result) }, (error) => { promised = failed(error) })
      return ''
    },

    settled: () => promised,

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
