//! Tests of the whole pool.

mod interleaving;
mod model;
mod operations;
mod quotas;
mod shares;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::{Ask, Lease, LeaseError, Limits, Meta, Order, PoolCore, Quota, Waiter};

type Core = Arc<PoolCore<u64>>;

const LIMITS: Limits = Limits {
    size: 3,
    min: 0,
    reserve: 1,
    reserve_after: Duration::from_secs(5),
    max_waiters: 4,
    max_opening: 2,
    order: Order::Lifo,
};

fn pool(limits: Limits) -> Core {
    PoolCore::new(limits, Vec::new(), || {})
}

fn shared(limits: Limits, quota: &Arc<Quota>) -> Core {
    PoolCore::new(limits, vec![Arc::clone(quota)], || {})
}

fn open(core: &Core, conn: u64, now: Instant) -> u64 {
    core.begin_open(now).unwrap().fill(conn, now).unwrap()
}

fn ready(core: &Core, now: Instant) -> Lease<u64> {
    core.try_lease(0, now).expect("a connection is idle")
}

fn wait(core: &Core, now: Instant) -> Waiter<u64> {
    match core.lease(0, now) {
        Ok(Ask::Wait(waiter)) => waiter,
        Ok(Ask::Ready(_)) => panic!("a connection was idle"),
        Err(error) => panic!("{error}"),
    }
}

fn peek(waiter: &mut Waiter<u64>) -> Poll<Result<Lease<u64>, LeaseError>> {
    Pin::new(waiter).poll(&mut Context::from_waker(Waker::noop()))
}

/// What a waiter was given, which must be a lease.
fn given(waiter: &mut Waiter<u64>) -> Lease<u64> {
    match peek(waiter) {
        Poll::Ready(Ok(lease)) => lease,
        Poll::Ready(Err(error)) => panic!("{error}"),
        Poll::Pending => panic!("the waiter was given nothing"),
    }
}

fn failed(waiter: &mut Waiter<u64>) -> LeaseError {
    match peek(waiter) {
        Poll::Ready(Err(error)) => error,
        Poll::Ready(Ok(_)) => panic!("the waiter was given a lease"),
        Poll::Pending => panic!("the waiter was told nothing"),
    }
}

fn clean(mut lease: Lease<u64>) {
    lease.mark_clean();
}

const fn fresh(_: &Meta) -> crate::Age {
    crate::Age::Fresh
}
