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

const { Buffer } = require('buffer')
const fs = require('fs')
const path = require('path')
const process = require('process') // by name, as all of the globals used here: programs may call their own things the same
const vm = require('vm')
const { createRequire, Module, stripTypeScriptTypes } = require('module')
const { setImmediate, setTimeout } = require('timers')
const { pathToFileURL } = require('url')
const { isPromise } = require('util').types
const channel = require('./channel.cjs')
const checking = require('./checking.cjs')
const displays = require('./display.cjs')
const errors = require('./errors.cjs')
const tools = require('./tools.cjs')
const values = require('./values.cjs')
const { META, rewritten } = require('./rewriting.cjs')
const { Run } = require('./run.cjs')

const { Math, Object } = globalThis
const { parse, stringify } = JSON
const { then } = globalThis.Promise.prototype
const emit = process.emit
const settings = parse(process.env.DSPEX_GUEST)
delete process.env.DSPEX_GUEST

// What a program would be the first to do, V8 compiles now.
const REHEARSED = ['1 + 1', 'rehearsed', '({ a: [1.5, "b"], c: new Map(), d: 1n })', 'throw new TypeError("x")', '1 +']

const home = process.cwd()
let cells = 0
let run = null // what is under way

function prepare () {
  const file = path.join(home, 'program.js')
  const module = new Module(file)
  const require = createRequire(file)
  require.main = module
  Object.assign(globalThis, { require, module, exports: module.exports, __filename: file, __dirname: home, display: displays.display })
  Object.defineProperty(globalThis, META, { value: { url: pathToFileURL(file).href, filename: file, dirname: home, main: true } })
  listen()
  tools.handTo(execute)
  process.stdout.write('')
  process.stderr.write('')
  for (const code of REHEARSED) rehearse(code)
  cells = 0
}

function listen () {
  process.exit = (code) => run.exit(code)
  process.emit = function (event, ...said) {
    return event === 'beforeExit' ? drained() : emit.call(this, event, ...said)
  }
  process.on('SIGINT', () => run?.fail(new errors.Interrupted()))
  process.on('uncaughtException', (error) => { // where the program has no listener of its own
    if (process.listenerCount('uncaughtException') === 1) run?.fail(error)
  })
  process.on('unhandledRejection', (error) => {
    if (process.listenerCount('unhandledRejection') === 1) emit.call(process, 'uncaughtException', error, 'unhandledRejection')
  })
}

function rehearse (code) {
  const envelope = { code, environment: {}, directory: null, timeout: 60, tools: [], tagged: false, session: false }
  run = new Run((outcome) => framed(told(outcome)))
  run.session = true
  perform(envelope, Buffer.from('{"rehearsed":[1]}'), Buffer.alloc(0))
  run.finish()
  delete globalThis.rehearsed
  run = null
}

// The event loop has nothing left to do.
function drained () {
  if (run === null) serve()
  else run.drained()
}

function serve () {
  if (channel.isReading()) return // for the return of a call; the request comes to `execute` then
  let frame = channel.readSync()
  for (; frame.kind === channel.RETURN; frame = channel.readSync()) tools.settle(frame)
  execute(frame)
}

function execute (frame) {
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
    run.fail(error)
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
  if (violation) return run.fail(new errors.Forbidden(violation))
  const { source, prefix, waits } = rewritten(code, envelope.session)
  const script = compiled(source, filename, prefix)
  const milliseconds = Math.max(1, Math.ceil(envelope.timeout * 1000))
  const value = script.runInThisContext(envelope.session ? { timeout: milliseconds, breakOnSigint: true, displayErrors: false } : { displayErrors: false })
  run.timer = setTimeout(() => run.fail(new errors.Deadline()), milliseconds).unref()
  if (!waits && !isPromise(value)) return run.succeed(value)
  run.waits = true
  then.call(value, (result) => run.succeed(result), (error) => run.fail(error))
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

function answer (outcome) {
  const ended = run
  run = null
  const body = told(outcome)
  channel.send(channel.ANSWER, body.tagged ? channel.TAGGED : 0, framed(body), body.buffers)
  if (ended.session) setImmediate(serve)
  else if (channel.readSync()) process.reallyExit(71)
}

const told = (outcome) => 'error' in outcome ? failed(outcome.error) : valueOf(outcome.value)

function valueOf (value) {
  if (value === undefined) return { text: Buffer.alloc(0), buffers: [], envelope: {} }
  const type = values.nameOf(value)
  try {
    return { ...values.encode(value, settings.value), envelope: { type } }
  } catch (error) {
    if (values.TooLarge.is(error)) return failed(error)
    return { text: Buffer.alloc(0), buffers: [], envelope: { type, repr: errors.shown(value).slice(0, 2000).toWellFormed() } }
  }
}

function failed (error) {
  const none = { text: Buffer.alloc(0), buffers: [] }
  if (errors.isExit(error, 0)) return { ...none, envelope: { type: 'SystemExit' } }
  if (values.TooLarge.is(error)) {
    return { ...none, envelope: { error: errors.plain('value_limit', 'RangeError', `the value takes more than ${settings.value} bytes`) } }
  }
  return { ...none, envelope: { error: errors.explained(error) } }
}

function framed ({ text, envelope }) {
  const length = Buffer.alloc(4)
  length.writeUInt32LE(text.length, 0)
  return Buffer.concat([length, text, Buffer.from(stringify(envelope))])
}

prepare()
channel.send(channel.READY, 0, Buffer.alloc(0))
serve()
