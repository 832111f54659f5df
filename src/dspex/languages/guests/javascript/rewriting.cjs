// Programs as node can run them: a script, whose completion value V8 gives. Scripts know no `await` at their top level and no import
// statements, and a second script may not declare again what a first one has. So, where there are such, the program is parsed
// (by the parser that node itself brings) and these places are written anew; no line moves.
'use strict'

const { Array, JSON, Math, Object, Set, SyntaxError } = globalThis
const META = '__import_meta__' // the global that stands for `import.meta`, which scripts have not

let parser = null // acorn, loaded when a program needs it

function acorn () {
  parser ??= require('internal/deps/acorn/acorn/dist/acorn')
  return parser
}

const OPTIONS = { ecmaVersion: 'latest', sourceType: 'module', allowAwaitOutsideFunction: true, allowReturnOutsideFunction: false, allowHashBang: true, locations: true }
const MODULE = /\b(?:await|import|export)\b/
const IMPORT_META = /\bimport\s*\.\s*meta\b/
const SILENT = /^(?:EmptyStatement|FunctionDeclaration)$/ // behind the last expression they change nothing
const DECLARES = /\b(?:const|let|class)\b/

// The program as a script, and what stands in front of it on its first line. `session`: what it declares may be declared again.
function rewritten (code, session) {
  const source = code.startsWith('#!') ? `//${code.slice(2)}` : code
  if (!MODULE.test(source) && !(session && DECLARES.test(source))) return { source, prefix: '', waits: false }
  const tree = parsed(source)
  if (tree === null) return { source, prefix: '', waits: false } // V8 says what is wrong
  const edits = new Edits(source)
  const modular = tree.body.filter((node) => /^(Import|Export)/.test(node.type))
  for (const node of modular) edits.module(node)
  if (IMPORT_META.test(source)) for (const node of metas(tree)) edits.replace(node.start, node.end, META)
  const waits = modular.some((node) => node.type === 'ImportDeclaration' || node.source) || awaits(tree)
  if (!waits) {
    if (session) for (const node of tree.body) edits.loosened(declared(node))
    return { source: edits.text(), prefix: '', waits }
  }
  return session ? hoisted(tree, edits) : wrapped(tree, edits)
}

function parsed (source) {
  for (const sourceType of ['module', 'script']) {
    try {
      return acorn().parse(source, { ...OPTIONS, sourceType })
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error
    }
  }
  return null
}

// A fresh program: its names are its own.
function wrapped (tree, edits) {
  edits.returned(tree.body.findLast(({ type }) => !SILENT.test(type)))
  const prefix = '(async () => {'
  return { source: `${prefix}${edits.text()}\n})()`, prefix, waits: true }
}

// A session's: its names outlive the function that the program becomes.
function hoisted (tree, edits) {
  const names = []
  for (const node of tree.body) edits.hoisted(node, declared(node), names)
  edits.returned(tree.body.findLast(({ type }) => !SILENT.test(type)))
  const prefix = `${names.length ? `var ${[...new Set(names)].join()};` : ''}(async () => {`
  return { source: `${prefix}${edits.text()}\n})()`, prefix, waits: true }
}

const isNamed = (node) => /Declaration$/.test(node.type) && node.id

const declared = (node) => node.type.startsWith('Export') ? node.declaration : node

class Edits {
  constructor (source) {
    this.source = source
    this.made = [] // [start, end, text], none within another
  }

  replace (start, end, text) {
    const lines = this.source.slice(start, end).split('\n').length - text.split('\n').length
    this.made.push([start, end, text + '\n'.repeat(Math.max(0, lines))])
  }

  text () {
    let text = ''
    let end = 0
    for (const [start, stop, put] of this.made.sort((a, b) => a[0] - b[0] || a[1] - b[1])) {
      text += this.source.slice(end, start) + put
      end = stop
    }
    return text + this.source.slice(end)
  }

  // An import becomes a dynamic one; an export is only what it declares.
  module (node) {
    switch (node.type) {
      case 'ImportDeclaration': return this.replace(node.start, node.end, imported(node))
      case 'ExportNamedDeclaration':
        if (node.declaration) return this.replace(node.start, node.declaration.start, '')
        return this.replace(node.start, node.end, node.source ? `await import(${node.source.raw});` : ';')
      case 'ExportAllDeclaration': return this.replace(node.start, node.end, `await import(${node.source.raw});`)
      case 'ExportDefaultDeclaration':
        if (isNamed(node.declaration)) return this.replace(node.start, node.declaration.start, '')
        return this.replace(node.start, this.behindDefault(node), ';0,')
    }
  }

  behindDefault (node) {
    return node.start + /^export\s+default/.exec(this.source.slice(node.start))[0].length
  }

  // `const`, `let` and `class` so that a later script may declare the name again.
  loosened (node) {
    if (node?.type === 'VariableDeclaration' && node.kind !== 'var') this.replace(node.start, node.start + node.kind.length, 'var')
    if (node?.type === 'ClassDeclaration' && node.id) {
      this.replace(node.start, node.start, `var ${node.id.name} = `)
      this.replace(node.end, node.end, ';')
    }
  }

  // A declaration becomes an assignment to a name that is declared outside.
  hoisted (node, inner, names) {
    if (inner?.type === 'VariableDeclaration') {
      names.push(...inner.declarations.flatMap(({ id }) => bound(id)))
      this.replace(inner.start, inner.start + inner.kind.length, ';void (')
      for (const each of inner.declarations) {
        if (each.init === null) this.replace(each.end, each.end, ' = undefined')
        if (each.id.type === 'ObjectPattern') {
          this.replace(each.start, each.start, '(')
          this.replace(each.end, each.end, ')')
        }
      }
      const last = inner.declarations.at(-1).end
      this.replace(last, inner.end, ');')
    } else if (inner?.type === 'FunctionDeclaration' && inner.id) {
      names.push(inner.id.name)
      this.replace(node.start, node.start, `globalThis[${JSON.stringify(inner.id.name)}] = ${inner.id.name};`)
    } else if (inner?.type === 'ClassDeclaration' && inner.id) {
      names.push(inner.id.name)
      this.replace(inner.start, inner.start, `${inner.id.name} = `)
      this.replace(inner.end, inner.end, ';')
    } else if (node.type === 'ImportDeclaration') {
      this.made = this.made.filter(([start]) => start !== node.start)
      names.push(...node.specifiers.map(({ local }) => local.name))
      this.replace(node.start, node.end, node.specifiers.length ? `(${imported(node).replace(/^const /, '').replace(/;$/, '')});` : imported(node))
    }
  }

  // The last expression is what the function returns.
  returned (node) {
    if (node?.type === 'ExportDefaultDeclaration' && !isNamed(node.declaration)) {
      this.made = this.made.filter(([start]) => start !== node.start)
      return this.replace(node.start, this.behindDefault(node), ';return 0,')
    }
    if (node?.type !== 'ExpressionStatement') return
    this.replace(node.start, node.start, 'return (')
    this.replace(node.expression.end, node.expression.end, ')')
  }
}

function imported (node) {
  const from = `await import(${node.source.raw}${withOf(node)})`
  const whole = node.specifiers.find(({ type }) => type === 'ImportNamespaceSpecifier')
  const named = node.specifiers.filter((one) => one !== whole).map((one) => {
    const name = one.type === 'ImportDefaultSpecifier' ? 'default' : one.imported.raw ?? one.imported.name
    return name === one.local.name ? name : `${name}: ${one.local.name}`
  })
  if (!node.specifiers.length) return `${from};`
  if (!whole) return `const {${named.join(', ')}} = ${from};`
  return named.length ? `const ${whole.local.name} = ${from}, {${named.join(', ')}} = ${whole.local.name};` : `const ${whole.local.name} = ${from};`
}

const withOf = (node) => node.attributes?.length
  ? `, {with: {${node.attributes.map(({ key, value }) => `${key.raw ?? key.name}: ${value.raw}`).join(', ')}}}`
  : ''

// The names that a pattern binds.
function bound (pattern) {
  switch (pattern?.type) {
    case 'Identifier': return [pattern.name]
    case 'ObjectPattern': return pattern.properties.flatMap((each) => bound(each.value ?? each.argument))
    case 'ArrayPattern': return pattern.elements.flatMap(bound)
    case 'AssignmentPattern': return bound(pattern.left)
    case 'RestElement': return bound(pattern.argument)
  }
  return []
}

const FUNCTIONS = /^(?:ArrowFunctionExpression|FunctionExpression|FunctionDeclaration|MethodDefinition|PropertyDefinition|StaticBlock)$/

// The nodes of a tree; not those within the ones that `closed` says.
function * nodes (tree, closed) {
  const pending = [tree]
  while (pending.length) {
    const node = pending.pop()
    yield node
    for (const child of Object.values(node)) {
      for (const each of Array.isArray(child) ? child : [child]) {
        if (each && typeof each.type === 'string' && !closed(each)) pending.push(each)
      }
    }
  }
}

// Whether the program awaits at its top level.
function awaits (tree) {
  for (const node of nodes(tree, ({ type }) => FUNCTIONS.test(type))) {
    if (node.type === 'AwaitExpression' || (node.type === 'ForOfStatement' && node.await)) return true
  }
  return false
}

// Every `import.meta` of the program's.
function * metas (tree) {
  for (const node of nodes(tree, () => false)) if (node.type === 'MetaProperty' && node.meta.name === 'import') yield node
}

module.exports = { META, rewritten, parsed }
