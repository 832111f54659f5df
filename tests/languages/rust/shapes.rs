// Trait objects, generics with bounds, operator overloading, an enum with match guards. Ends with an expression.
use std::collections::HashMap;
use std::f64::consts::PI;
use std::fmt::{self, Display};
use std::ops::{Add, Mul};

#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
struct Vector {
    x: f64,
    y: f64,
}

impl Add for Vector {
    type Output = Vector;
    fn add(self, other: Vector) -> Vector {
        Vector { x: self.x + other.x, y: self.y + other.y }
    }
}

impl Mul<f64> for Vector {
    type Output = Vector;
    fn mul(self, by: f64) -> Vector {
        Vector { x: self.x * by, y: self.y * by }
    }
}

trait Shape {
    fn area(&self) -> f64;
    fn name(&self) -> String;
    fn describe(&self) -> String {
        format!("{} of {:.2}", self.name(), self.area())
    }
}

struct Circle(f64);
struct Rectangle { corner: Vector, opposite: Vector }
struct Polygon(Vec<Vector>);

impl Shape for Circle {
    fn area(&self) -> f64 { PI * self.0.powi(2) }
    fn name(&self) -> String { "circle".into() }
}

impl Shape for Rectangle {
    fn area(&self) -> f64 {
        ((self.opposite.x - self.corner.x) * (self.opposite.y - self.corner.y)).abs()
    }
    fn name(&self) -> String {
        match ((self.opposite.x - self.corner.x).abs(), (self.opposite.y - self.corner.y).abs()) {
            (w, h) if (w - h).abs() < 1e-9 => "square".to_string(),
            _ => "rectangle".to_string(),
        }
    }
}

impl Shape for Polygon {
    fn area(&self) -> f64 {
        let points = &self.0;
        let shoelace: f64 = (0..points.len())
            .map(|i| (points[i], points[(i + 1) % points.len()]))
            .map(|(a, b)| a.x * b.y - b.x * a.y)
            .sum();
        shoelace.abs() / 2.0
    }
    fn name(&self) -> String { format!("{}-gon", self.0.len()) }
}

struct Table<T>(Vec<T>);

impl<T: Display> Display for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(i, row)| writeln!(f, "{:02}. {row}", i + 1))
    }
}

fn largest<'a>(shapes: &'a [Box<dyn Shape>]) -> Option<&'a dyn Shape> {
    shapes.iter().map(|s| s.as_ref()).max_by(|a, b| a.area().total_cmp(&b.area()))
}

let origin = Vector { x: 0.0, y: 0.0 };
let shapes: Vec<Box<dyn Shape>> = vec![
    Box::new(Circle(1.5)),
    Box::new(Rectangle { corner: origin, opposite: Vector { x: 2.0, y: 2.0 } }),
    Box::new(Rectangle { corner: origin, opposite: Vector { x: 1.0, y: 3.0 } * 2.0 }),
    Box::new(Polygon(vec![origin, Vector { x: 4.0, y: 0.0 }, Vector { x: 4.0, y: 3.0 } + origin])),
];
print!("{}", Table(shapes.iter().map(|s| s.describe()).collect()));

let mut areas: HashMap<String, Vec<f64>> = HashMap::new();
for shape in &shapes {
    areas.entry(shape.name()).or_default().push((shape.area() * 100.0).round() / 100.0);
}
(areas, largest(&shapes).map(Shape::name))
