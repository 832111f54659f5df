// One run, and how it ends. A fresh program ends as it does under node: when nothing is left to do its listeners of 'beforeExit'
// are heard, then those of 'exit', and a status other than 0 (of `process.exit`, or in `process.exitCode`, where test runners
// leave it) is a failure. A session's cell ends when its value has come and its calls have returned; of that nobody is
// told, for the session goes on.
'use strict'

const process = require('process')
const { clearTimeout } = require('timers')
const tools = require('./tools.cjs')
const { Deadline, Endless, Exit, Interrupted, Ours } = require('./errors.cjs')

const { Number } = globalThis
const emit = process.emit

// Whether the event loop would end at once: what microtasks and ticks there are, run now.
function isIdle () {
  process._tickCallback()
  return process.getActiveResourcesInfo().length === 0
}

class Run {
  constructor (answered) {
    this.answered = answered
    this.session = false
    this.waits = false
    this.over = false
    this.outcome = null // { value } or { error }
  }

  // The value has come; what a fresh program still has under way goes on.
  succeed (value) {
    if (this.over || this.outcome) return
    this.waits = false
    this.outcome = { value }
    try {
      const idle = isIdle()
      if (this.session) tools.afterCalls(() => this.finish())
      else if (idle) this.drained()
    } catch (late) {
      this.fail(late)
    }
  }

  // After an error nothing goes on.
  fail (error) {
    if (this.over) return
    this.waits = false
    this.outcome = { error }
    tools.forget()
    this.finish()
  }

  // The event loop has nothing left to do.
  drained () {
    if (!this.session) {
      emit.call(process, 'beforeExit', process.exitCode ?? 0)
      if (this.over || !isIdle()) return
    }
    if (this.waits) this.fail(new Endless('the program awaits what will never come'))
    else this.finish()
  }

  // Of a fresh program nothing comes behind this.
  exit (code) {
    if (this.session || this.over) throw new Exit(Number(code ?? process.exitCode ?? 0))
    if (code !== undefined) process.exitCode = code
    this.fail(new Exit(Number(process.exitCode ?? 0)))
  }

  finish () {
    if (this.over) return
    this.over = true
    clearTimeout(this.timer)
    const outcome = this.outcome ?? { value: undefined }
    this.answered(this.session ? outcome : left(outcome))
  }
}

// What a fresh program leaves with, once its listeners of 'exit' have been heard.
function left (outcome) {
  const failed = 'error' in outcome
  const ours = failed && Ours.is(outcome.error) ? outcome.error : null
  if (ours instanceof Deadline || ours instanceof Interrupted) return outcome
  const code = ours instanceof Exit ? ours.code : failed ? 1 : process.exitCode ?? 0
  try {
    emit.call(process, 'exit', code)
  } catch (late) {
    if (!Ours.is(late)) return { error: late }
  }
  if (failed && !(ours instanceof Exit)) return outcome
  const status = Number(process.exitCode ?? code)
  if (status !== 0) return { error: new Exit(status) }
  return outcome
}

module.exports = { Run }
