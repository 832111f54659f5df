// The JavaScript guest: takes requests on its channel, runs them, answers. Everything here may be overwritten by the program.
//
// Theory of operation. It waits for an EXECUTE frame, runs the program as a script in the main context, and sends one ANSWER. A
// fresh guest sees one request: it answers when the event loop has nothing left to do, as node ends then. A session's answers
// when the program's value has come, and waits for the next request; timers of the program stand still meanwhile.
//
// In a session loops are ended by V8's own watchdog, at the deadline or by SIGINT, as long as the program has not awaited; what
// awaits is ended by a timer. A loop behind an `await` is ended by the host's SIGKILL, and the session with it. A fresh guest
// ends anyway: there the watchdog, whose threads cost half a millisecond, is the host alone.
//
// Nothing in this file is a wall: a program may patch, forge or break all of it, and harms its own run only.
'use strict'

const fs = require('fs')
const path = require('path')
const vm = require('vm')
const { createRequire, Module, stripTypeScriptTypes } = require('module')
const { inspect } = require('util')
const channel = require('./channel.cjs')
const checking = require('./checking.cjs')
const displays = require('./display.cjs')
const errors = require('./errors.cjs')
const tools = require('./tools.cjs')
const values = require('./values.cjs')
const { rewritten } = require('./rewriting.cjs')

const settings = JSON.parse(process.env.DSPEX_GUEST)
delete process.env.DSPEX_GUEST

// What a program would be the first to do, V8 compiles now.
const REHEARSED = ['1 + 1', 'rehearsed', '({ a: [1.5, "b"], c: new Map(), d: 1n })', 'throw new TypeError("x")', '1 +']

const home = process.cwd()
let cells = 0
let run = null // what is under way: `end` is called once with its outcome

function prepare () {
  globalThis.require = createRequire(path.join(home, 'program.js'))
  globalThis.module = new Module('<program>')
  globalThis.exports = globalThis.module.exports
  globalThis.__filename = path.join(home, 'program.js')
  globalThis.__dirname = home
  globalThis.display = displays.display
  process.exit = (code) => { throw new errors.Exit(code ?? process.exitCode ?? 0) }
  process.on('SIGINT', () => run?.end(null, new errors.Interrupted()))
  process.on('uncaughtException', (error) => run ? run.end(null, error) : undefined)
  process.on('unhandledRejection', (error) => run ? run.end(null, error) : undefined)
  process.on('beforeExit', drained)
  process.stdout.write('')
  process.stderr.write('')
  for (const code of REHEARSED) rehearse(code)
  cells = 0
}

function rehearse (code) {
  const envelope = { code, environment: {}, directory: null, timeout: 60, tools: [], tagged: false, session: false }
  run = new Run(({ value, error }) => framed(error === null ? valueOf(value) : failed(error)))
  perform(envelope, Buffer.from('{"rehearsed":[1]}'), Buffer.alloc(0))
  run.finish()
  delete globalThis.rehearsed
  run = null
}

// The event loop has nothing left to do.
function drained () {
  if (run === null) return serve()
  if (run.waits) run.end(null, new errors.Endless('the program awaits what will never come'))
  else run.finish()
}

// Whether the event loop would end at once: what microtasks and ticks there are, run now.
function isIdle () {
  process._tickCallback()
  return process.getActiveResourcesInfo().length === 0
}

class Run {
  constructor (answered) {
    this.answered = answered
    this.waits = false
    this.over = false
    this.outcome = null
  }

  // The value has come, or an error; what a fresh program still has under way goes on, after an error nothing does.
  end (value, error = null) {
    if (this.over || (this.outcome && error === null)) return
    this.waits = false
    this.outcome = { value, error }
    try {
      if (error !== null || this.session || isIdle()) this.finish()
    } catch (late) {
      this.end(null, late)
    }
  }

  finish () {
    if (this.over) return
    this.over = true
    clearTimeout(this.timer)
    this.answered(this.outcome ?? { value: undefined, error: null })
  }
}

function serve () {
  const frame = channel.readSync()
  if (frame.kind !== channel.EXECUTE) process.reallyExit(71)
  const { envelope, values: text, buffers } = channel.opened(frame)
  run = new Run(answer)
  perform(envelope, text, buffers)
}

function perform (envelope, text, buffers) {
  run.session = envelope.session
  displays.begin(settings.value)
  try {
    begin(envelope)
    if (text.length) Object.assign(globalThis, values.decode(text, buffers, envelope.tagged))
    evaluate(envelope, run)
  } catch (error) {
    run.end(null, error)
  }
}

function begin (envelope) {
  Object.assign(process.env, envelope.environment)
  if (envelope.directory !== null) {
    const directory = path.resolve(home, envelope.directory)
    if (directory.startsWith(home)) fs.mkdirSync(directory, { recursive: true })
    process.chdir(directory)
  }
  tools.offer(envelope.tools, settings.value)
}

function evaluate (envelope, run) {
  cells += 1
  const filename = cells === 1 ? '<program>' : `<program ${cells}>`
  const code = settings.typescript ? stripped(envelope.code) : envelope.code
  const violation = checking.firstViolation(code, settings.modules, settings.calls)
  if (violation) return run.end(null, new errors.Forbidden(violation))
  const { source, prefix, waits } = rewritten(code, envelope.session)
  const script = compiled(source, filename, prefix)
  const milliseconds = Math.max(1, Math.ceil(envelope.timeout * 1000))
  const value = script.runInThisContext(envelope.session ? { timeout: milliseconds, breakOnSigint: true, displayErrors: false } : { displayErrors: false })
  if (!waits && !(value instanceof Promise)) return run.end(value)
  run.waits = true
  run.timer = setTimeout(() => run.end(null, new errors.Deadline()), milliseconds).unref()
  Promise.prototype.then.call(value, (result) => run.end(result), (error) => run.end(null, error))
}

function compiled (source, filename, prefix) {
  try {
    return new vm.Script(source, {
      filename,
      columnOffset: -prefix.length,
      importModuleDynamically: vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER
    })
  } catch (error) {
    errors.unreadable.add(error)
    throw error
  }
}

function stripped (code) {
  for (const mode of ['strip', 'transform']) { // the second for what is more than types (enums, say); lines may move
    try {
      return stripTypeScriptTypes(code, { mode })
    } catch (error) {
      if (mode === 'strip' && error.code === 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX') continue
      error.stack = error.stack.replace(/^:/, '<program>:')
      errors.unreadable.add(error)
      throw error
    }
  }
}

function answer ({ value, error }) {
  const ended = run
  run = null
  const body = error === null ? valueOf(value) : failed(error)
  channel.send(channel.ANSWER, body.tagged ? channel.TAGGED : 0, framed(body), body.buffers)
  if (ended.session) setImmediate(serve)
  else if (channel.readSync()) process.reallyExit(71)
}

function valueOf (value) {
  if (value === undefined) return { text: Buffer.alloc(0), buffers: [], envelope: {} }
  const type = values.nameOf(value)
  try {
    return { ...values.encode(value, settings.value), envelope: { type } }
  } catch (error) {
    if (error instanceof values.TooLarge) return failed(error)
    return { text: Buffer.alloc(0), buffers: [], envelope: { type, repr: described(value) } }
  }
}

function failed (error) {
  const none = { text: Buffer.alloc(0), buffers: [] }
  if (error instanceof errors.Exit && error.code === 0) return { ...none, envelope: { type: 'SystemExit' } }
  if (error instanceof values.TooLarge) {
    return { ...none, envelope: { error: errors.plain('value_limit', 'RangeError', `the value takes more than ${settings.value} bytes`) } }
  }
  return { ...none, envelope: { error: errors.explained(error) } }
}

function described (value) {
  try {
    return inspect(value).slice(0, 2000)
  } catch {
    return `<${values.nameOf(value)}>`
  }
}

function framed ({ text, envelope }) {
  const length = Buffer.alloc(4)
  length.writeUInt32LE(text.length, 0)
  return Buffer.concat([length, text, Buffer.from(JSON.stringify(envelope))])
}

prepare()
channel.send(channel.READY, 0, Buffer.alloc(0))
serve()
