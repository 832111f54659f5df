use std::collections::HashMap;

/// An inventory with its own tests, as a model hands it in: no main.
#[derive(Debug, Default)]
pub struct Inventory {
    items: HashMap<String, Item>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    pub quantity: u32,
    pub cents: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub enum StockError {
    OutOfStock { wanted: u32, left: u32 },
    NotFound,
}

impl Inventory {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn add(&mut self, name: impl Into<String>, quantity: u32, cents: u64) -> &mut Self {
        self.items
            .entry(name.into())
            .and_modify(|item| item.quantity += quantity)
            .or_insert(Item { quantity, cents });
        self
    }

    pub fn remove(&mut self, name: &str, wanted: u32) -> Result<u64, StockError> {
        let item = self.items.get_mut(name).ok_or(StockError::NotFound)?;
        if item.quantity < wanted {
            return Err(StockError::OutOfStock { wanted, left: item.quantity });
        }
        item.quantity -= wanted;
        Ok(u64::from(wanted) * item.cents)
    }

    pub fn value(&self) -> u64 {
        self.items.values().map(|item| u64::from(item.quantity) * item.cents).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stocked() -> Inventory {
        let mut inventory = Inventory::new();
        inventory.add("bolt", 100, 5).add("nut", 40, 3).add("bolt", 20, 5);
        inventory
    }

    #[test]
    fn counts_what_was_added_twice() {
        assert_eq!(stocked().items["bolt"], Item { quantity: 120, cents: 5 });
        assert_eq!(stocked().value(), 720);
    }

    #[test]
    fn removes_and_charges() -> Result<(), StockError> {
        let mut inventory = stocked();
        assert_eq!(inventory.remove("bolt", 20)?, 100);
        assert_eq!(inventory.value(), 620);
        Ok(())
    }

    #[test]
    fn refuses_more_than_there_is() {
        let error = stocked().remove("nut", 41).unwrap_err();
        assert_eq!(error, StockError::OutOfStock { wanted: 41, left: 40 });
        assert_eq!(stocked().remove("washer", 1), Err(StockError::NotFound));
    }

    #[test]
    #[should_panic(expected = "NotFound")]
    fn unwrapping_what_is_missing_panics() {
        stocked().remove("washer", 1).unwrap();
    }

    #[test]
    #[ignore = "slow"]
    fn takes_long() {
        loop {}
    }
}
