use std::borrow::Cow;
use std::collections::BTreeMap;

/// Words and how often they occur; traits with associated types, `Cow`, closures that are kept, string slices with lifetimes.
trait Pipeline {
    type Output;
    fn run(&self, text: &str) -> Self::Output;
}

struct Steps<'s> {
    steps: Vec<(&'s str, Box<dyn Fn(&str) -> String + 's>)>,
}

impl<'s> Steps<'s> {
    fn then(mut self, name: &'s str, step: impl Fn(&str) -> String + 's) -> Self {
        self.steps.push((name, Box::new(step)));
        self
    }
}

impl Pipeline for Steps<'_> {
    type Output = (String, Vec<String>);
    fn run(&self, text: &str) -> Self::Output {
        self.steps.iter().fold((text.to_string(), vec![]), |(text, mut log), (name, step)| {
            let next = step(&text);
            log.push(format!("{name}: {} -> {}", text.chars().count(), next.chars().count()));
            (next, log)
        })
    }
}

fn squeezed(text: &str) -> Cow<'_, str> {
    if text.contains("  ") { Cow::Owned(text.split_whitespace().collect::<Vec<_>>().join(" ")) } else { Cow::Borrowed(text) }
}

fn longest<'a>(words: &[&'a str]) -> Option<&'a str> {
    words.iter().copied().max_by_key(|word| word.chars().count())
}

let stop = ["the", "a"];
let pipeline = Steps { steps: vec![] }
    .then("lower", |text| text.to_lowercase())
    .then("squeeze", |text| squeezed(text).into_owned())
    .then("stop", |text| text.split(' ').filter(|word| !stop.contains(word)).collect::<Vec<_>>().join(" "));
let (cleaned, log) = pipeline.run(&text);
let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
for word in cleaned.split(' ') {
    *counts.entry(word).or_insert(0) += 1;
}
for line in &log {
    println!("{line}");
}
let words: Vec<&str> = counts.keys().copied().collect();
(longest(&words), counts)
