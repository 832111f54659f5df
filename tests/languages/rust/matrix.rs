use std::fmt;
use std::ops::{Index, IndexMut, Mul};

#[derive(Clone, PartialEq, Debug)]
struct Matrix<const R: usize, const C: usize>([[i64; C]; R]);

impl<const R: usize, const C: usize> Index<(usize, usize)> for Matrix<R, C> {
    type Output = i64;
    fn index(&self, (row, column): (usize, usize)) -> &i64 {
        &self.0[row][column]
    }
}

impl<const R: usize, const C: usize> IndexMut<(usize, usize)> for Matrix<R, C> {
    fn index_mut(&mut self, (row, column): (usize, usize)) -> &mut i64 {
        &mut self.0[row][column]
    }
}

impl<const R: usize, const C: usize, const K: usize> Mul<&Matrix<C, K>> for &Matrix<R, C> {
    type Output = Matrix<R, K>;
    fn mul(self, other: &Matrix<C, K>) -> Matrix<R, K> {
        let mut product = Matrix([[0; K]; R]);
        for row in 0..R {
            for column in 0..K {
                product[(row, column)] = (0..C).map(|i| self[(row, i)] * other[(i, column)]).sum();
            }
        }
        product
    }
}

impl<const R: usize, const C: usize> fmt::Display for Matrix<R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.0 {
            let cells: Vec<String> = row.iter().map(|cell| format!("{cell:>4}")).collect();
            writeln!(f, "[{}]", cells.join(","))?;
        }
        Ok(())
    }
}

impl<const N: usize> Matrix<N, N> {
    fn identity() -> Self {
        let mut result = Matrix([[0; N]; N]);
        (0..N).for_each(|i| result[(i, i)] = 1);
        result
    }

    fn pow(&self, mut exponent: u32) -> Self {
        let (mut base, mut result) = (self.clone(), Self::identity());
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = &result * &base;
            }
            base = &base * &base;
            exponent >>= 1;
        }
        result
    }

    fn row(&self, row: usize) -> &[i64; N] {
        &self.0[row]
    }
}

fn main() {
    let fibonacci = Matrix([[1, 1], [1, 0]]);
    for n in [1, 2, 10, 30] {
        println!("fib({n}) = {}", fibonacci.pow(n)[(0, 1)]);
    }
    let wide = Matrix([[1, 2, 3], [4, 5, 6]]);
    let tall = Matrix([[7, 8], [9, 10], [11, 12]]);
    print!("{}", &wide * &tall);
    assert_eq!(&wide * &tall, Matrix([[58, 64], [139, 154]]));
    eprintln!("checking a row that is not there");
    let rows: Vec<i64> = (0..3).map(|row| fibonacci.row(row).iter().sum()).collect();
    println!("{rows:?}");
}
