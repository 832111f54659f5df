// Matrices with a type for their shape; the last assertion does not hold.
type Row = readonly number[]
interface Shape { rows: number; columns: number }

class AssertionError extends Error {
  override name = 'AssertionError'
}

class Matrix implements Iterable<Row> {
  readonly data: Row[]
  constructor (data: Row[]) { this.data = data }

  static identity (size: number): Matrix {
    return new Matrix(Array.from({ length: size }, (_, i) => Array.from({ length: size }, (_, j): number => +(i === j))))
  }

  get shape (): Shape { return { rows: this.data.length, columns: this.data[0]?.length ?? 0 } }

  times (other: Matrix): Matrix {
    if (this.shape.columns !== other.shape.rows) throw new TypeError('the shapes do not fit')
    return new Matrix(this.data.map((row) => other.data[0]!.map((_, j) => row.reduce((sum, x, k) => sum + x * other.data[k]![j]!, 0))))
  }

  * [Symbol.iterator] (): Iterator<Row> { yield * this.data }
}

function assertEqual<T> (actual: T, expected: T): void {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)]
  if (a !== b) throw new AssertionError(`${a} is not ${b}`)
}

const m = new Matrix([[1, 2], [3, 4]])
assertEqual([...m.times(Matrix.identity(2))], [[1, 2], [3, 4]])
assertEqual(m.times(m).data, [[7, 10], [15, 22]])
console.log('two hold')
assertEqual<Shape>(m.shape, { rows: 2, columns: 3 })
