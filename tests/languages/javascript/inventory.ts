// An inventory with interfaces, generics, enums, overloads, unions and type guards.
enum Status { Active = 'ACTIVE', Sold = 'SOLD' }

interface Item {
  readonly id: number
  name: string
  price: number
  status: Status
  tags?: readonly string[]
}

type Result<T, E extends Error = Error> = { ok: true; value: T } | { ok: false; error: E }
type ItemKey = keyof Item

abstract class Repository<T extends { id: number }> {
  protected readonly items: Map<number, T> = new Map<number, T>()

  abstract validate (item: T): Result<T>

  add (item: T): Result<T> {
    const checked = this.validate(item)
    if (checked.ok) this.items.set(item.id, checked.value)
    return checked
  }

  find (predicate: (item: T) => boolean): T | undefined {
    return [...this.items.values()].find(predicate)
  }

  groupBy<K extends string> (key: (item: T) => K): Record<K, T[]> {
    return Object.groupBy(this.items.values(), key) as Record<K, T[]>
  }
}

class Inventory extends Repository<Item> {
  constructor (private readonly currency: string = 'EUR') {
    super()
  }

  override validate (item: Item): Result<Item> {
    if (item.price < 0) return { ok: false, error: new RangeError(`${item.name}: a price of ${item.price}`) }
    return { ok: true, value: item }
  }

  total (): string
  total (status: Status): string
  total (status?: Status): string {
    const items = [...this.items.values()].filter((item) => status === undefined || item.status === status)
    return `${items.reduce((sum, { price }) => sum + price, 0).toFixed(2)} ${this.currency}`
  }
}

function isActive (item: Item): item is Item & { status: Status.Active } {
  return item.status === Status.Active
}

function assertOk<T> (result: Result<T>): asserts result is { ok: true; value: T } {
  if (!result.ok) throw result.error
}

const inventory = new Inventory()
const rows: Array<[string, number, Status]> = [['lamp', 30, Status.Active], ['table', 120.5, Status.Sold], ['chair', 45, Status.Active]]
rows.forEach(([name, price, status], id) => assertOk(inventory.add({ id, name, price, status })))

const first = inventory.find(isActive)!
const key: ItemKey = 'name'
console.log(first[key], inventory.total(), inventory.total(Status.Active))
const counts = Object.fromEntries(Object.entries(inventory.groupBy((item) => item.status)).map(([status, items]) => [status, items.length]))
counts satisfies Record<string, number>
