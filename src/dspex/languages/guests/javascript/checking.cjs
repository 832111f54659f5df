// The static check of the policy: modules and calls that it forbids, found in the program's syntax tree and told with their line.
// A courtesy, told early; the wall is the kernel.
'use strict'

const { parsed } = require('./rewriting.cjs')

// The first violation as { message, line }, or null.
function firstViolation (code, modules, calls) {
  if (!modules.length && !calls.length) return null
  const tree = parsed(code)
  const pending = tree === null ? [] : [tree]
  while (pending.length) {
    const node = pending.pop()
    const message = violation(node, modules, calls)
    if (message) return { message, line: node.loc.start.line }
    const children = Object.values(node).flat().filter((each) => each && typeof each.type === 'string')
    pending.push(...children.reverse())
  }
  return null
}

function violation (node, modules, calls) {
  const module = moduleOf(node)
  if (module !== null) {
    const name = module.replace(/^node:/, '')
    if (modules.some((forbidden) => name === forbidden || name.startsWith(`${forbidden}/`))) return `the policy forbids the module ${name}`
  }
  if (node.type === 'CallExpression' || node.type === 'NewExpression') {
    const name = dotted(node.callee)
    if (name && calls.includes(name)) return `the policy forbids calling ${name}`
  }
  return null
}

function moduleOf (node) {
  if (/^(?:Import|Export\w+)Declaration$|^ImportExpression$/.test(node.type)) return text(node.source)
  if (node.type !== 'CallExpression') return null
  return ['require', 'process.getBuiltinModule', 'process.binding'].includes(dotted(node.callee)) ? text(node.arguments[0]) : null
}

const text = (node) => node?.type === 'Literal' && typeof node.value === 'string' ? node.value : null

function dotted (node) {
  if (node.type === 'Identifier') return node.name
  if (node.type !== 'MemberExpression' || node.computed) return ''
  const object = dotted(node.object)
  return object ? `${object}.${node.property.name}` : ''
}

module.exports = { firstViolation }
