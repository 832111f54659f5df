// Errors as the program's author would see them: the engine's own frames are left out.
'use strict'

const { inspect, types: { isNativeError, isProxy } } = require('util')
const { nameOf } = require('./values.cjs')

const PLACE = /(<program(?: \d+)?>):(\d+)(?::(\d+))?/
const OURS = __dirname
const unreadable = new WeakSet() // errors of programs that V8 could not read
const DISK = new Set(['ENOSPC', 'EDQUOT', 'EFBIG'])

const { Error, Number, RangeError, String } = globalThis

// The engine's own. `is` asks no trap of a Proxy's, and no getter, as instanceof would.
class Ours extends Error {
  #ours = true
  static is (error) { return error !== null && typeof error === 'object' && #ours in error }
}
class Deadline extends Ours {}
class Interrupted extends Ours {}
class Endless extends Ours {}
class Forbidden extends Ours {
  constructor ({ message, line }) {
    super(message)
    this.line = line
  }
}
class Exit extends Ours {
  constructor (code) {
    super(`the program left with status ${code}`)
    this.code = code
  }
}

const isExit = (error, code) => Ours.is(error) && error instanceof Exit && error.code === code

const plain = (kind, type, message, line = null, column = null, traceback = '') => ({
  kind, type: type.toWellFormed(), message: message.toWellFormed(), line, column, traceback: traceback.toWellFormed()
})

// What a program says of itself, where that can be heard: getters, traps and `toString` may throw.
function heard (say, otherwise) {
  try {
    return say()
  } catch {
    return otherwise
  }
}

const shown = (value) => heard(() => traceOf(inspect(value)).slice(0, 10000), 'what cannot be shown')

function explained (error) {
  const code = Ours.is(error) || isProxy(error) ? undefined : heard(() => error?.code, undefined)
  if (code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') return own(new Deadline())
  if (code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED') return own(new Interrupted())
  if (Ours.is(error)) return own(error)
  if (!isProxy(error) && heard(() => error instanceof Error || isNativeError(error), false)) return told(error)
  return plain('runtime', nameOf(error), `Uncaught ${shown(error)}`)
}

function own (error) {
  if (error instanceof Deadline) return plain('timeout', 'Deadline', 'the program ran longer than its wall time limit')
  if (error instanceof Interrupted) return plain('runtime', 'KeyboardInterrupt', 'the run was interrupted')
  if (error instanceof Forbidden) return plain('policy', 'PolicyViolation', error.message, error.line)
  return error instanceof Exit ? plain('runtime', 'SystemExit', String(error.code)) : plain('runtime', 'Error', error.message)
}

function told (error) {
  const stack = heard(() => String(error.stack), '')
  const message = heard(() => typeof error.message === 'string' ? error.message : inspect(error.message), 'what cannot be shown')
  const [line, column] = placeIn(error, stack)
  const kind = heard(() => kindOf(error), 'runtime')
  return plain(kind, heard(() => typeName(error), nameOf(error)), message.slice(0, 10000), line, column, traceOf(stack))
}

function typeName (error) {
  const name = error.name
  return typeof name === 'string' && name && name !== 'Error' ? name.slice(0, 200) : nameOf(error)
}

function kindOf (error) {
  if (unreadable.has(error)) return 'syntax'
  if (error instanceof RangeError && /allocat/i.test(error.message)) return 'memory_limit'
  if (DISK.has(error.code)) return 'disk_limit'
  if (error.code === 'ERR_WORKER_INIT_FAILED' || (error.code === 'EAGAIN' && error.syscall !== 'read')) return 'process_limit'
  return 'runtime'
}

// The place of the program's own first frame. The text of one that cannot be read has none: its stack begins with the place, and a
// mark under the column.
function placeIn (error, stack) {
  const found = PLACE.exec(stack)
  if (found === null) return [null, null]
  if (!unreadable.has(error)) return [Number(found[2]), found[3] === undefined ? null : Number(found[3])]
  const mark = /\n([ \t]*)\^+/.exec(stack)
  return [Number(found[2]), mark === null ? null : mark[1].length + 1]
}

function traceOf (stack) {
  const lines = stack.split('\n').filter((line) => !/^\s+at /.test(line) || (PLACE.test(line) && !line.includes(OURS)))
  return lines.join('\n').slice(0, 20000)
}

module.exports = { explained, isExit, plain, shown, unreadable, Deadline, Endless, Exit, Forbidden, Interrupted, Ours }
