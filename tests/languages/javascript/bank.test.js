// A bank with events, tested by node:test and node:assert; one test expects what the bank does not do.
const { test, describe, it, beforeEach } = require('node:test')
const assert = require('node:assert/strict')
const { EventEmitter } = require('node:events')

class InsufficientFunds extends Error {
  constructor (balance, wanted) {
    super(`balance ${balance}, wanted ${wanted}`)
    this.name = 'InsufficientFunds'
    this.code = 'E_FUNDS'
  }
}

class Account extends EventEmitter {
  #balance = 0
  constructor (owner) { super(); this.owner = owner }
  get balance () { return this.#balance }

  deposit (amount) {
    if (!(amount > 0)) throw new TypeError(`no amount: ${amount}`)
    this.#balance += amount
    this.emit('change', { kind: 'deposit', amount, balance: this.#balance })
    return this
  }

  withdraw (amount) {
    if (amount > this.#balance) throw new InsufficientFunds(this.#balance, amount)
    this.#balance -= amount
    this.emit('change', { kind: 'withdraw', amount, balance: this.#balance })
    return this
  }

  async transfer (other, amount) {
    this.withdraw(amount)
    await new Promise((resolve) => setTimeout(resolve, 1))
    other.deposit(amount)
  }
}

describe('an account', () => {
  let account
  beforeEach(() => { account = new Account('Ada').deposit(100) })

  it('is paid into', () => assert.equal(account.balance, 100))
  it('refuses what it has not', () => {
    assert.throws(() => account.withdraw(500), { name: 'InsufficientFunds', code: 'E_FUNDS' })
  })
  it('tells of changes', () => {
    const seen = []
    account.on('change', (change) => seen.push(change))
    account.withdraw(30).deposit(5)
    assert.deepEqual(seen.map(({ kind, balance }) => [kind, balance]), [['withdraw', 70], ['deposit', 75]])
  })
})

test('transfers', async (t) => {
  const [a, b] = [new Account('Ada').deposit(50), new Account('Bob')]
  await a.transfer(b, 20)
  assert.deepEqual([a.balance, b.balance], [30, 20])
  await t.test('are all or nothing', () => assert.rejects(a.transfer(b, 1000), /balance 30, wanted 1000/))
})

test('interest is paid', () => {
  assert.equal(new Account('Ada').deposit(100).balance, 105)
})
