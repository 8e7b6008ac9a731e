// SPDX-License-Identifier: GPL-2.0-only

//! What a large write does instead of waiting: it copies to a reader that waits, or lets readers
//! copy from its memory. What that takes is in [`direct`] and in [`demand`](crate::demand).

use super::{Step, Write};
use crate::{
    direct::{self, Ahead},
    lock::Inner,
    mm::PageStock,
    pipe::Pipe,
    slot::Kind,
    trace,
    zcore::{
        offer::{Offer, Standing},
        PAGE_SIZE,
    },
};
use kernel::prelude::*;

impl Write<'_, '_, '_> {
    /// Whether to offer what is left: it would have to wait.
    pub(super) fn offer(&self, inner: &Inner) -> Result<(), Step> {
        let offers = self.offers
            // What is staged has been taken from the source, and is not in the pipe.
            && self.staged.is_none()
            && self.left() >= direct::least()
            && !inner.ring.is_offered()
            && !inner.slots_only()
            // Nothing of it could be announced where all slots are reserved.
            && (inner.ring.used() != 0 || inner.ring.free() != 0)
            && self.standing.may_offer(inner.waiting_writers.count + u32::from(inner.refused))
            && !Offer::new(self.left(), self.phase).fits(inner.ring.free())
            && self.request.may_offer()
            && !current!().signal_pending();
        if !offers {
            return Ok(());
        }

        let Some(ahead) = &self.ahead else {
            return Err(Step::Look);
        };
        let offer = ahead.offer(self.done, self.total, self.phase);
        if offer.left() >= direct::least() && !offer.fits(inner.ring.free()) {
            return Err(Step::Offer(offer));
        }
        if ahead.stale(self.done) {
            return Err(Step::Look);
        }
        Ok(())
    }

    /// Copies to a reader that waits, if one does: what would be in the pipe then.
    pub(super) fn push(&mut self, inner: &mut Inner) {
        if inner.demand.is_none() || inner.slots_only() {
            return;
        }
        let Some(demand) = &mut inner.demand else {
            return;
        };
        let pushes = demand.is_open()
            && self.left() >= direct::least()
            && self.staged.is_none()
            && inner.ring.used() == 0
            && !inner.ring.is_occupied()
            && self.request.kind() == Kind::Stream;
        if pushes {
            let most = self.left().min(direct::most());
            let (bytes, end) = demand.push(most, self.phase, self.source);

            self.done += bytes;
            // What is left of a slot still takes it up.
            self.phase = (self.phase + bytes) % PAGE_SIZE;
            self.direct += bytes;
            self.merge &= bytes == 0;
            self.pushed += bytes;
            self.announced = self.announced.saturating_sub(bytes);
            inner.ring.passed(bytes);
            inner.stats.push.moved(bytes, end);
            trace::push(&inner.id, bytes, end);
        }
    }

    /// Finds out what of the rest could be offered. Sleeps: not under the lock.
    pub(super) fn look_ahead(&mut self) {
        match &mut self.ahead {
            Some(ahead) => {
                ahead.look(self.source, self.done);
            }
            None => {
                self.ahead = Ahead::new(self.source, self.done, self.request.file);
                self.offers = self.ahead.is_some();
            }
        }
    }

    /// Puts memory behind the slots, for readers to take.
    pub(super) fn put_out(&mut self, inner: &mut Inner, offer: Offer) {
        let Some(ahead) = &mut self.ahead else { return };
        if let Some(direct) = ahead.put_out(offer, self.done) {
            inner.ring.offer(direct);
            inner.refused = false;
            self.standing = Standing::Fresh;
            inner.stats.write.offers += 1;
            trace::offer(&inner.id, offer.left());
        }
    }

    /// Offers more and more of it, as long as it is present. Not under the lock.
    pub(super) fn extend(&mut self, pipe: &Pipe) {
        let Some(ahead) = &mut self.ahead else { return };

        while !pipe.state().offer_over()
            && !current!().signal_pending()
            && ahead.look(self.source, self.done)
        {
            let all = ahead.offer(self.done, self.total, self.phase);
            let mut inner = pipe.lock();
            let free = inner.ring.free();
            if let Some(direct) = inner.ring.direct() {
                ahead.extend(direct, free, all, self.done);
            }
        }
    }

    /// Pages that are missing to put into free slots what is left of an offer: as long as there are,
    /// the offer is not to be withdrawn, or what it announces would be gone for a while.
    pub(super) fn missing_for_refill(&self, inner: &mut Inner) -> usize {
        let free = inner.ring.free();
        let left = inner.ring.direct().map_or(0, |d| d.offer().slots_left());
        let stock = self.stock.as_ref().map_or(0, PageStock::len) + self.more.len();

        left.min(free).saturating_sub(inner.spare.len() + stock)
    }

    /// Takes an offer back, and counts what readers took of it. Says whether it was in the way of
    /// other writers.
    pub(super) fn withdraw(&mut self, inner: &mut Inner) -> bool {
        let free = inner.ring.free();
        let (Some(ahead), Some(direct)) = (&mut self.ahead, inner.ring.withdraw()) else {
            return false;
        };
        let in_the_way = direct.offer().takeable();
        let announced = direct.offer().visible(free);
        let (done, phase, standing) = ahead.take_back(direct);

        self.offers = !ahead.is_in_vain();
        self.source.skip(done - self.done);
        self.direct += done - self.done;
        self.done = done;
        self.phase = phase;
        self.standing = standing;
        self.withdrawn = true;
        self.announced = announced;
        self.turns = inner.waiting_writers.turns;
        in_the_way
    }
}
