use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::thread;

enum Message {
    Work(u64),
    Stop,
}

struct Pool {
    senders: Vec<Sender<Message>>,
    handles: Vec<thread::JoinHandle<usize>>,
}

impl Pool {
    fn new(size: usize, results: Sender<(u64, u64)>) -> Pool {
        let (senders, handles) = (0..size)
            .map(|_| {
                let (sender, receiver): (Sender<Message>, Receiver<Message>) = mpsc::channel();
                let results = results.clone();
                let handle = thread::spawn(move || {
                    let mut done = 0;
                    while let Ok(Message::Work(n)) = receiver.recv() {
                        results.send((n, collatz(n))).expect("somebody listens");
                        done += 1;
                    }
                    done
                });
                (sender, handle)
            })
            .unzip();
        Pool { senders, handles }
    }

    fn finish(self) -> usize {
        self.senders.iter().for_each(|sender| sender.send(Message::Stop).unwrap());
        self.handles.into_iter().map(|handle| handle.join().unwrap()).sum()
    }
}

fn collatz(mut n: u64) -> u64 {
    let mut steps = 0;
    while n != 1 {
        n = if n % 2 == 0 { n / 2 } else { 3 * n + 1 };
        steps += 1;
    }
    steps
}

fn main() {
    let (sender, receiver) = mpsc::channel();
    let pool = Pool::new(4, sender);
    for n in 1..=200u64 {
        pool.senders[n as usize % 4].send(Message::Work(n)).unwrap();
    }
    let done = pool.finish();
    let steps: BTreeMap<u64, u64> = receiver.into_iter().collect();
    for (n, steps) in &steps {
        println!("{n:>4} {steps:>4} {}", "#".repeat(*steps as usize / 4));
    }

    let shared = Arc::new((Mutex::new(false), Condvar::new()));
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::new(RwLock::new(Vec::new()));
    thread::scope(|scope| {
        for id in 0..3 {
            let (shared, count, seen) = (&shared, &count, &seen);
            scope.spawn(move || {
                let (ready, condition) = &**shared;
                let _guard = condition.wait_while(ready.lock().unwrap(), |ready| !*ready).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                seen.write().unwrap().push(id);
            });
        }
        *shared.0.lock().unwrap() = true;
        shared.1.notify_all();
    });
    let mut ids = seen.read().unwrap().clone();
    ids.sort_unstable();
    println!("{done} done, {} woke: {ids:?}, longest {:?}", count.load(Ordering::SeqCst), steps.iter().max_by_key(|(_, s)| **s));

    let broken = thread::Builder::new().name("broken".into()).spawn(|| {
        let empty: Vec<u8> = Vec::new();
        empty[3]
    });
    let outcome = broken.unwrap().join();
    assert!(outcome.is_ok(), "the thread should have ended well");
}
