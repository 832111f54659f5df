#![allow(dead_code)]
#![deny(unsafe_code)]

mod lexer {
    use std::iter::Peekable;
    use std::str::Chars;

    #[derive(Debug, Clone, PartialEq)]
    pub enum Token<'a> {
        Number(f64),
        Name(&'a str),
        Symbol(char),
    }

    pub struct Lexer<'a> {
        text: &'a str,
        at: usize,
        chars: Peekable<Chars<'a>>,
    }

    impl<'a> Lexer<'a> {
        pub fn new(text: &'a str) -> Self {
            Lexer { text, at: 0, chars: text.chars().peekable() }
        }

        fn while_true(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
            let start = self.at;
            while let Some(c) = self.chars.next_if(|c| keep(*c)) {
                self.at += c.len_utf8();
            }
            &self.text[start..self.at]
        }
    }

    impl<'a> Iterator for Lexer<'a> {
        type Item = Token<'a>;

        fn next(&mut self) -> Option<Token<'a>> {
            self.while_true(char::is_whitespace);
            match self.chars.peek().copied()? {
                c if c.is_ascii_digit() => {
                    let digits = self.while_true(|c| c.is_ascii_digit() || c == '.');
                    Some(Token::Number(digits.parse().unwrap_or(f64::NAN)))
                }
                c if c.is_alphabetic() => Some(Token::Name(self.while_true(|c| c.is_alphanumeric() || c == '_'))),
                c => {
                    self.chars.next();
                    self.at += c.len_utf8();
                    Some(Token::Symbol(c))
                }
            }
        }
    }
}

pub mod ast {
    #[derive(Debug)]
    pub enum Expr {
        Number(f64),
        Variable(String),
        Binary(Box<Expr>, Operator, Box<Expr>),
        Let { name: String, value: Box<Expr>, body: Box<Expr> },
    }

    #[derive(Debug, Clone, Copy)]
    pub enum Operator { Add, Sub, Mul, Div }
}

use ast::{Expr, Operator};
use lexer::{Lexer, Token};
use std::collections::HashMap;

type Scope = HashMap<String, f64>;

macro_rules! binary {
    ($self:ident, $lower:ident, $($symbol:literal => $operator:ident),+ $(,)?) => {{
        let mut left = $self.$lower()?;
        loop {
            left = match $self.peek() {
                $(Some(Token::Symbol($symbol)) => {
                    $self.at += 1;
                    Expr::Binary(Box::new(left), Operator::$operator, Box::new($self.$lower()?))
                })+
                _ => break Ok(left),
            };
        }
    }};
}

struct Parser<'a> { tokens: Vec<Token<'a>>, at: usize }

impl<'a> Parser<'a> {
    fn of(text: &'a str) -> Self { Parser { tokens: Lexer::new(text).collect(), at: 0 } }
    fn peek(&self) -> Option<&Token<'a>> { self.tokens.get(self.at) }
    fn take(&mut self) -> Result<Token<'a>, String> {
        let token = self.peek().cloned().ok_or("unexpected end")?;
        self.at += 1;
        Ok(token)
    }
    fn expect(&mut self, wanted: Token<'_>) -> Result<(), String> {
        let found = self.take()?;
        if found == wanted { Ok(()) } else { Err(format!("expected {wanted:?}, found {found:?}")) }
    }
    fn sum(&mut self) -> Result<Expr, String> { binary!(self, product, '+' => Add, '-' => Sub) }
    fn product(&mut self) -> Result<Expr, String> { binary!(self, atom, '*' => Mul, '/' => Div) }
    fn atom(&mut self) -> Result<Expr, String> {
        match self.take()? {
            Token::Number(n) => Ok(Expr::Number(n)),
            Token::Name("let") => {
                let Token::Name(name) = self.take()? else { return Err("expected a name".into()) };
                self.expect(Token::Symbol('='))?;
                let value = Box::new(self.sum()?);
                self.expect(Token::Name("in"))?;
                Ok(Expr::Let { name: name.to_string(), value, body: Box::new(self.sum()?) })
            }
            Token::Name(name) => Ok(Expr::Variable(name.to_string())),
            Token::Symbol('(') => {
                let inner = self.sum()?;
                self.expect(Token::Symbol(')'))?;
                Ok(inner)
            }
            other => Err(format!("unexpected {other:?}")),
        }
    }
}

fn evaluate(expr: &Expr, scope: &Scope) -> Result<f64, String> {
    Ok(match expr {
        Expr::Number(n) => *n,
        Expr::Variable(name) => *scope.get(name).ok_or_else(|| format!("unbound {name}"))?,
        Expr::Binary(left, operator, right) => {
            let (left, right) = (evaluate(left, scope)?, evaluate(right, scope)?);
            match operator {
                Operator::Add => left + right,
                Operator::Sub => left - right,
                Operator::Mul => left * right,
                Operator::Div if right == 0.0 => return Err("division by zero".to_string()),
                Operator::Div => left / right,
            }
        }
        Expr::Let { name, value, body } => {
            let mut inner = scope.clone();
            inner.insert(name.clone(), evaluate(value, scope)?);
            evaluate(body, &inner)?
        }
    })
}

fn calculate(text: &str) -> Result<f64, String> {
    let mut parser = Parser::of(text);
    let expr = parser.sum()?;
    if let Some(rest) = parser.peek() {
        return Err(format!("left over: {rest:?}"));
    }
    evaluate(&expr, &Scope::new())
}

#[cfg(test)]
mod tests {
    #[test]
    fn never_run_here() { panic!("main is what runs") }
}

fn main() {
    for text in ["1 + 2 * 3", "let x = 4 in x * (x - 1) / 2", "1 / (2 - 2)", "(1", "y", "1 2", "let π = 3 in π"] {
        match calculate(text) {
            Ok(value) => println!("{text} = {value}"),
            Err(why) => println!("{text}: {why}"),
        }
    }
}
