// Reads a CSV file that it wrote, with streams and readline, and leaves with status 1 because a row is broken.
const fs = require('fs')
const path = require('path')
const readline = require('readline')
const util = require('util')

const ROWS = ['name,age,city', 'Ada,36,London', '"Grace, Admiral",85,New York', 'Broken,x,Nowhere', 'Alan,41,Wilmslow']

function parseLine (line) {
  const fields = []
  let field = ''
  let quoted = false
  for (const char of line) {
    if (char === '"') quoted = !quoted
    else if (char === ',' && !quoted) { fields.push(field); field = '' } else field += char
  }
  return [...fields, field]
}

async function * records (file) {
  const lines = readline.createInterface({ input: fs.createReadStream(file), crlfDelay: Infinity })
  let header = null
  for await (const line of lines) {
    const fields = parseLine(line)
    if (header) yield Object.fromEntries(header.map((name, i) => [name, fields[i]]))
    else header = fields
  }
}

async function main () {
  const file = path.join(__dirname, 'people.csv')
  await util.promisify(fs.writeFile)(file, ROWS.join('\n'))
  let broken = 0
  for await (const { name, age, city } of records(file)) {
    const years = Number.parseInt(age, 10)
    if (Number.isNaN(years)) {
      console.error(`line of ${name}: no age: ${age}`)
      broken++
      continue
    }
    console.log(util.format('%s is %d and lives in %s', name, years, city))
  }
  if (broken) throw new Error(`${broken} broken`)
}

process.on('exit', (code) => console.log(`left with ${code}`))

if (require.main === module) {
  main().catch((error) => {
    console.error(error.message)
    process.exit(1)
  })
}
