// A tokenizer, a parser by precedence and an evaluator; a table of cases, of which one says what is not so.
const OPERATORS = {
  '+': { precedence: 1, apply: (a, b) => a + b },
  '-': { precedence: 1, apply: (a, b) => a - b },
  '*': { precedence: 2, apply: (a, b) => a * b },
  '/': {
    precedence: 2,
    apply (a, b) {
      if (b === 0) throw new RangeError('Division by zero')
      return a / b
    }
  },
  '^': { precedence: 3, right: true, apply: Math.pow }
}

class ParseError extends SyntaxError {
  constructor (message, position) {
    super(`${message} at ${position}`)
    this.name = 'ParseError'
    this.position = position
  }
}

function * tokenize (text) {
  const pattern = /\s*(?:(\d+(?:\.\d+)?)|([-+*/^()]))/y
  while (pattern.lastIndex < text.trimEnd().length) {
    const position = pattern.lastIndex
    const match = pattern.exec(text)
    if (!match) throw new ParseError('Unexpected character', position)
    yield match[1] ? { type: 'number', value: Number(match[1]), position } : { type: 'symbol', value: match[2], position }
  }
}

function parse (text) {
  const tokens = [...tokenize(text)]
  let at = 0
  const peek = () => tokens[at]
  const take = () => tokens[at++]

  function primary () {
    const token = take()
    if (!token) throw new ParseError('Unexpected end', text.length)
    if (token.type === 'number') return token.value
    if (token.value === '-') return { operator: '*', left: -1, right: expression(2) }
    if (token.value !== '(') throw new ParseError(`Unexpected ${token.value}`, token.position)
    const inner = expression(0)
    if (take()?.value !== ')') throw new ParseError('Missing )', token.position)
    return inner
  }

  function expression (least) {
    let left = primary()
    for (;;) {
      const operator = OPERATORS[peek()?.value]
      if (!operator || operator.precedence < least) return left
      const { value } = take()
      const right = expression(operator.right ? operator.precedence : operator.precedence + 1)
      left = { operator: value, left, right }
    }
  }

  const tree = expression(0)
  if (peek()) throw new ParseError(`Unexpected ${peek().value}`, peek().position)
  return tree
}

const evaluate = (tree) => typeof tree === 'number'
  ? tree
  : OPERATORS[tree.operator].apply(evaluate(tree.left), evaluate(tree.right))

function assertEqual (actual, expected, name) {
  if (actual !== expected) throw new Error(`${name}: expected ${expected}, got ${actual}`)
  console.log(`ok ${name} = ${actual}`)
}

const cases = [
  ['1 + 2 * 3', 7],
  ['(1 + 2) * 3', 9],
  ['2 ^ 3 ^ 2', 512],
  ['-4 + 10 / 4', -1.5],
  ['7 - 2 - 1', 6]
]

for (const [text, expected] of cases) {
  assertEqual(evaluate(parse(text)), expected, text)
}
