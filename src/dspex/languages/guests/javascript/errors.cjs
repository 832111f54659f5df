// Errors as the program's author would see them: the engine's own frames are left out.
'use strict'

const { inspect } = require('util')
const { nameOf } = require('./values.cjs')

const PLACE = /(<program(?: \d+)?>):(\d+)(?::(\d+))?/
const OURS = __dirname
const unreadable = new WeakSet() // errors of programs that V8 could not read
const DISK = new Set(['ENOSPC', 'EDQUOT', 'EFBIG'])

class Deadline extends Error {}
class Interrupted extends Error {}
class Endless extends Error {}
class Forbidden extends Error {
  constructor ({ message, line }) {
    super(message)
    this.line = line
  }
}
class Exit extends Error {
  constructor (code) {
    super(`the program left with status ${code}`)
    this.code = code
  }
}

const plain = (kind, type, message, line = null, column = null, traceback = '') => ({ kind, type, message, line, column, traceback })

function explained (error) {
  try {
    return told(error)
  } catch (failure) {
    return plain('runtime', 'Error', `the error could not be described: ${nameOf(failure)}`)
  }
}

function told (error) {
  if (error instanceof Deadline || error?.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') {
    return plain('timeout', 'Deadline', 'the program ran longer than its wall time limit')
  }
  if (error instanceof Interrupted || error?.code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED') {
    return plain('runtime', 'KeyboardInterrupt', 'the run was interrupted')
  }
  if (error instanceof Forbidden) return plain('policy', 'PolicyViolation', error.message, error.line)
  if (error instanceof Endless) return plain('runtime', 'Error', error.message)
  if (error instanceof Exit) return plain('runtime', 'SystemExit', String(error.code))
  if (!(error instanceof Error) && !isForeignError(error)) {
    return plain('runtime', nameOf(error), `Uncaught ${inspect(error).slice(0, 10000)}`)
  }
  const stack = typeof error.stack === 'string' ? error.stack : ''
  const [line, column] = placeIn(error, stack)
  return plain(kindOf(error), typeName(error), String(error.message).slice(0, 10000), line, column, traceOf(stack))
}

// Of another realm, as `vm` makes them.
const isForeignError = (error) => require('util').types.isNativeError(error)

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

module.exports = { explained, plain, unreadable, Deadline, Endless, Exit, Forbidden, Interrupted }
