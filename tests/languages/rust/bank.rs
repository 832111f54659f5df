//! A small bank: structs, a trait with a default method, error types with `From`, `Result` all the way.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::num::ParseIntError;

#[derive(Debug, Clone, PartialEq)]
enum BankError {
    InsufficientFunds { needed: u64, available: u64 },
    UnknownAccount(String),
    Malformed(ParseIntError),
}

impl fmt::Display for BankError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BankError::InsufficientFunds { needed, available } => {
                write!(f, "needed {needed}, but only {available} available")
            }
            BankError::UnknownAccount(name) => write!(f, "no account named {name:?}"),
            BankError::Malformed(reason) => write!(f, "malformed amount: {reason}"),
        }
    }
}

impl Error for BankError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            BankError::Malformed(reason) => Some(reason),
            _ => None,
        }
    }
}

impl From<ParseIntError> for BankError {
    fn from(reason: ParseIntError) -> Self {
        BankError::Malformed(reason)
    }
}

trait Ledger {
    fn entries(&self) -> Vec<(&str, u64)>;

    fn total(&self) -> u64 {
        self.entries().iter().map(|(_, amount)| amount).sum()
    }
}

#[derive(Default)]
struct Bank {
    accounts: BTreeMap<String, u64>,
    log: Vec<String>,
}

impl Bank {
    fn deposit(&mut self, name: &str, amount: &str) -> Result<u64, BankError> {
        let amount: u64 = amount.trim().parse()?;
        let balance = self.accounts.entry(name.to_owned()).or_insert(0);
        *balance += amount;
        self.log.push(format!("{name} +{amount}"));
        Ok(*balance)
    }

    fn transfer(&mut self, from: &str, to: &str, amount: u64) -> Result<(), BankError> {
        let available = *self.accounts.get(from).ok_or_else(|| BankError::UnknownAccount(from.into()))?;
        if !self.accounts.contains_key(to) {
            return Err(BankError::UnknownAccount(to.into()));
        }
        let rest = available
            .checked_sub(amount)
            .ok_or(BankError::InsufficientFunds { needed: amount, available })?;
        self.accounts.insert(from.into(), rest);
        *self.accounts.get_mut(to).unwrap() += amount;
        self.log.push(format!("{from} -> {to}: {amount}"));
        Ok(())
    }
}

impl Ledger for Bank {
    fn entries(&self) -> Vec<(&str, u64)> {
        self.accounts.iter().map(|(name, amount)| (name.as_str(), *amount)).collect()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut bank = Bank::default();
    bank.deposit("ada", "100")?;
    bank.deposit("bob", " 20 ")?;
    bank.transfer("ada", "bob", 35)?;
    for (from, to, amount) in [("bob", "ada", 500), ("eve", "ada", 1)] {
        match bank.transfer(from, to, amount) {
            Ok(()) => println!("{from} paid {to}"),
            Err(why) => println!("refused: {why}"),
        }
    }
    if let Err(why) = bank.deposit("ada", "ten") {
        println!("refused: {why} ({})", why.source().is_some());
    }
    for (name, amount) in bank.entries() {
        println!("{name:<5}|{amount:>6}");
    }
    assert_eq!(bank.total(), 120);
    println!("{}", bank.log.join("; "));
    bank.transfer("ada", "nobody", 1)?;
    println!("never reached");
    Ok(())
}
