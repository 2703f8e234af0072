//! The vault frees bytes: once in a while it notes what it sees for the first time, condemns the packs that no staying point needs and
//! that are older than `immutableFor` by the vault's own time, and one round later frees those that still nobody needs. See
//! docs/adr/0007.

use std::{collections::BTreeSet, io, sync::PoisonError};

use serde::Serialize;

use crate::api::epoch::{Epoch, PointRef};
use crate::api::thinning::Thinning;

use super::{
    condemned::{self, Condemned},
    disk::Published,
    embassy::Embassy,
    ledger::Ledger,
    needs::{Needs, Unreadable},
    repository::objects,
    route::{Kind, Slug},
    store::{Store, numbers_below, numbers_in},
    thinnings,
};

/// Why an embassy is not swept.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// What stays is not known.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The vault's disk failed.
    #[error("the vault's disk failed: {0}")]
    Disk(#[from] io::Error),
}

/// The rules of this vault.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Nothing younger is freed, in seconds, whatever is ordered.
    pub least: i64,
    /// So long a pack is condemned before it is freed, in seconds.
    pub grace: i64,
}

/// What a round did for one embassy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Packs that are condemned now.
    pub condemned: usize,
    /// Packs that were freed.
    pub freed: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Written down before anything is freed.
#[derive(Serialize)]
struct Record<'a> {
    order: i64,
    time: i64,
    epoch: &'a str,
    packs: &'a BTreeSet<String>,
}

/// One round for one embassy, at the vault's time `now`. Blocking.
pub fn sweep(store: &dyn Store, embassy: &Embassy, rules: Rules, now: i64) -> Result<Swept, SweepError> {
    let round = Round { store, embassy, rules, now };
    let folders = store.folders(&embassy.repositories())?;
    let slugs: Vec<Slug> = folders.iter().filter_map(|name| Slug::parse(name)).collect();
    let ledger = round.note(&slugs)?;
    let Some((order, _)) = thinnings::read_newest(store, &embassy.thinnings())? else {
        return Ok(Swept::default());
    };
    let mut swept = Swept::default();
    for slug in &slugs {
        let done = round.repository(slug, &order, &ledger)?;
        swept.condemned += done.condemned;
        swept.freed += done.freed;
        swept.bytes += done.bytes;
    }
    Ok(swept)
}

struct Round<'a> {
    store: &'a dyn Store,
    embassy: &'a Embassy,
    rules: Rules,
    now: i64,
}

impl Round<'_> {
    /// Notes packs and manifests that were never seen before.
    fn note(&self, slugs: &[Slug]) -> io::Result<Ledger> {
        let mut ledger = Ledger::read(self.store, &self.embassy.seen())?;
        let mut seen = vec![];
        for slug in slugs {
            let packs = packs(self.store, &self.embassy.repository(slug))?;
            seen.extend(packs.into_iter().map(|pack| pack_name(slug, &pack)));
        }
        for (slug, sequences) in numbers_below(self.store, &self.embassy.points())? {
            seen.extend(sequences.into_iter().map(|sequence| point_name(&slug, sequence)));
        }
        ledger.note(self.store, seen.into_iter(), self.now)?;
        Ok(ledger)
    }

    fn repository(&self, slug: &Slug, order: &Thinning, ledger: &Ledger) -> Result<Swept, SweepError> {
        let repository = self.embassy.repository(slug);
        let least = self.rules.least.max(order.immutable_for);
        let old = |name: &str| ledger.age(name, self.now) >= least;
        let points = self.points(slug)?;
        let mut needs = Needs::of(self.store, &repository);
        for sequence in staying(slug, &points, order, |sequence| old(&point_name(&slug.text(), sequence))) {
            needs.add(&self.embassy.point(slug, sequence))?;
        }
        let file = self.embassy.condemned(&slug.text());
        let before = condemned::read(self.store, &file)?;
        let unneeded = packs(self.store, &repository)?
            .into_iter()
            .filter(|pack| !needs.objects().contains(&format!("data/{pack}")) && old(&pack_name(slug, pack)));
        let mut after: Condemned =
            unneeded.map(|pack| (pack.clone(), before.get(&pack).copied().unwrap_or(self.now))).collect();
        // Written before anything goes: from then on no copy that begins builds on it.
        condemned::write(self.store, &file, &before, &after)?;
        let due = after.iter().filter(|(_, since)| self.now - **since >= self.rules.grace);
        let due: BTreeSet<String> = due.map(|(pack, _)| pack.clone()).collect();
        let (freed, bytes) = self.free(slug, order, needs, &points, due)?;
        let remaining = after.clone();
        after.retain(|pack, _| !freed.contains(pack));
        condemned::write(self.store, &file, &remaining, &after)?;
        Ok(Swept { condemned: after.len(), freed: freed.len(), bytes })
    }

    fn points(&self, slug: &Slug) -> io::Result<BTreeSet<i64>> {
        Ok(numbers_below(self.store, &self.embassy.points())?.remove(&slug.text()).unwrap_or_default())
    }

    /// Frees what is due and what no point needs that was committed meanwhile. No point is committed while this goes on.
    fn free(
        &self,
        slug: &Slug,
        order: &Thinning,
        mut needs: Needs<'_>,
        known: &BTreeSet<i64>,
        mut due: BTreeSet<String>,
    ) -> Result<(BTreeSet<String>, u64), SweepError> {
        if due.is_empty() {
            return Ok((due, 0));
        }
        let _committing = self.embassy.committing.lock().unwrap_or_else(PoisonError::into_inner);
        for sequence in self.points(slug)?.difference(known) {
            needs.add(&self.embassy.point(slug, *sequence))?;
        }
        due.retain(|pack| !needs.objects().contains(&format!("data/{pack}")));
        self.record(&Record { order: order.sequence, time: self.now, epoch: &slug.text(), packs: &due })?;
        let repository = self.embassy.repository(slug);
        let mut bytes = 0;
        for pack in &due {
            bytes += self.store.remove(&Kind::Data.object(&repository, pack))?;
        }
        self.embassy.release(bytes);
        Ok((due, bytes))
    }

    fn record(&self, record: &Record<'_>) -> io::Result<()> {
        let folder = self.embassy.freed();
        let last = numbers_in(self.store, &folder)?.pop().unwrap_or(0);
        let object = format!("{folder}/{}.json", last + 1);
        match self.store.create(&object, &serde_json::to_vec(record)?)? {
            Published::New => Ok(()),
            Published::Exists => Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "two vaults write one list of what is freed",
            )),
        }
    }
}

/// Sequences that stay: what the order keeps, what is young, and the newest.
fn staying(slug: &Slug, points: &BTreeSet<i64>, order: &Thinning, is_old: impl Fn(i64) -> bool) -> Vec<i64> {
    let epoch = Epoch::new(slug.number, slug.site.clone());
    let newest = points.last().copied();
    let stays = |sequence: &i64| {
        let point = PointRef { epoch: epoch.clone(), sequence: *sequence };
        !order.gives_up(&point) || Some(*sequence) == newest || !is_old(*sequence)
    };
    points.iter().copied().filter(stays).collect()
}

fn packs(store: &dyn Store, repository: &str) -> io::Result<BTreeSet<String>> {
    Ok(objects(store, repository, Kind::Data)?.into_iter().map(|object| object.name).collect())
}

fn pack_name(slug: &Slug, pack: &str) -> String {
    format!("{}/data/{pack}", slug.text())
}

fn point_name(slug: &str, sequence: i64) -> String {
    format!("{slug}/points/{sequence}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

    use super::*;
    use crate::api::thinning::{Stays, THINNING_VERSION};
    use crate::trust::envelope::{Envelope, Purpose};
    use crate::trust::signing::SiteKey;
    use crate::vault::inventory::{Inventory, VERSION};
    use crate::vault::server::{
        completeness, directory::Directory, embassy::Embassies, metrics::Metrics, repository::sha256,
        route::Place, store::text_of,
    };

    const RULES: Rules = Rules { least: 100, grace: 10 };

    /// An embassy on disk with one repository, and what its points need.
    struct World {
        _root: tempfile::TempDir,
        store: Arc<dyn Store>,
        embassy: Arc<Embassy>,
        key: SiteKey,
        slug: Slug,
        needs: Vec<BTreeSet<String>>,
        /// Names of the points' inventories.
        inventories: Vec<String>,
        order: Option<Thinning>,
    }

    impl World {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let store: Arc<dyn Store> = Arc::new(Directory::open(root.path()).unwrap());
            let embassies = Embassies::load(Arc::clone(&store), &Metrics::default()).unwrap();
            let place = Place { namespace: "land".to_owned(), name: "land".to_owned() };
            let embassy = embassies.get_or_create(&place, "tallinn").unwrap();
            let slug = Slug::parse("1-tallinn").unwrap();
            store.create(&format!("{}/config", embassy.repository(&slug)), b"config").unwrap();
            let key = SiteKey::generate().unwrap();
            Self { _root: root, store, embassy, key, slug, needs: vec![], inventories: vec![], order: None }
        }

        fn repository(&self) -> String {
            self.embassy.repository(&self.slug)
        }

        fn store(&self, kind: Kind, content: &[u8]) -> String {
            let name = sha256(content);
            self.store.create(&kind.object(&self.repository(), &name), content).unwrap();
            name
        }

        fn pack(&self, text: &str) -> String {
            format!("data/{}", self.store(Kind::Data, text.as_bytes()))
        }

        /// Stores the inventory of a point that needs this; on the one before, if there is one.
        fn inventory(&self, needs: &BTreeSet<String>, alone: bool) -> String {
            let base = self.inventories.last().filter(|_| !alone);
            let before = base.and(self.needs.last()).cloned().unwrap_or_default();
            let inventory = Inventory {
                version: VERSION,
                base: base.cloned(),
                depth: i64::try_from(if base.is_some() { self.needs.len() } else { 0 }).unwrap().min(1),
                config: String::new(),
                added: needs.difference(&before).cloned().collect(),
                dropped: before.difference(needs).cloned().collect(),
            };
            self.store(Kind::Inventories, &serde_json::to_vec(&inventory).unwrap())
        }

        /// Commits a point as the door does; it may be refused.
        fn commit(&mut self, needs: BTreeSet<String>, inventory: &str) -> bool {
            let payload = format!(r#"{{"contents":{{"inventory":"{inventory}"}}}}"#);
            let text = Envelope::sign(&self.key, "tallinn", Purpose::Manifest, payload).to_text();
            if completeness::check(&text, &*self.store, &self.repository(), &BTreeSet::new()).is_err() {
                return false;
            }
            let sequence = i64::try_from(self.needs.len()).unwrap() + 1;
            self.store.create(&self.embassy.point(&self.slug, sequence), text.as_bytes()).unwrap();
            self.needs.push(needs);
            self.inventories.push(inventory.to_owned());
            true
        }

        fn point(&mut self, needs: &[&String]) {
            let needs: BTreeSet<String> = needs.iter().map(ToString::to_string).collect();
            let inventory = self.inventory(&needs, true);
            assert!(self.commit(needs, &inventory));
        }

        fn order(&mut self, through: i64, stay: &[i64]) {
            let stays = Stays { through, points: stay.iter().copied().collect() };
            let order = Thinning {
                version: THINNING_VERSION,
                namespace: "land".to_owned(),
                embassy: "land".to_owned(),
                vault: "luxembourg".to_owned(),
                sequence: self.order.as_ref().map_or(1, |order| order.sequence + 1),
                previous: String::new(),
                time: Time(Timestamp::UNIX_EPOCH),
                immutable_for: 50,
                epochs: [(Epoch::new(1, "tallinn"), stays)].into(),
            };
            let payload = serde_json::to_string(&order).unwrap();
            let text = Envelope::sign(&self.key, "tallinn", Purpose::Thinning, payload).to_text();
            let object = format!("{}/{}.json", self.embassy.thinnings(), order.sequence);
            self.store.create(&object, text.as_bytes()).unwrap();
            self.order = Some(order);
        }

        fn sweep(&self, now: i64) -> Result<Swept, SweepError> {
            sweep(&*self.store, &self.embassy, RULES, now)
        }

        fn holds(&self, pack: &str) -> bool {
            let object = Kind::Data.object(&self.repository(), pack.strip_prefix("data/").unwrap());
            self.store.size(&object).unwrap().is_some()
        }
    }

    #[test]
    fn what_is_given_up_is_condemned_then_freed_and_nothing_else_is() {
        let mut world = World::new();
        let [old, shared, new] = ["old", "shared", "new"].map(|text| world.pack(text));
        world.point(&[&old, &shared]);
        world.point(&[&shared, &new]);
        world.order(1, &[]);
        assert_eq!(world.sweep(0).unwrap(), Swept::default());
        assert_eq!(world.sweep(99).unwrap(), Swept::default(), "younger than the vault allows");
        assert_eq!(world.sweep(100).unwrap(), Swept { condemned: 1, freed: 0, bytes: 0 });
        assert!(world.holds(&old));
        assert_eq!(world.sweep(109).unwrap().freed, 0, "announced for less than a round");
        assert_eq!(world.sweep(110).unwrap(), Swept { condemned: 0, freed: 1, bytes: 3 });
        assert!(!world.holds(&old) && world.holds(&shared) && world.holds(&new));
        let record = text_of(&*world.store, &format!("{}/1.json", world.embassy.freed())).unwrap();
        assert!(record.contains(old.strip_prefix("data/").unwrap()), "{record}");
    }

    #[test]
    fn a_point_that_is_committed_meanwhile_keeps_what_it_needs() {
        let mut world = World::new();
        let [old, new] = ["old", "new"].map(|text| world.pack(text));
        world.point(&[&old]);
        world.point(&[&new]);
        world.order(1, &[]);
        world.sweep(0).unwrap();
        assert_eq!(world.sweep(100).unwrap().condemned, 1);
        // A copy that began before the pack was condemned.
        world.point(&[&old, &new]);
        assert_eq!(world.sweep(200).unwrap(), Swept::default());
        assert!(world.holds(&old));
    }

    #[test]
    fn without_an_order_or_with_an_unreadable_inventory_nothing_goes() {
        let mut world = World::new();
        let [old, new] = ["old", "new"].map(|text| world.pack(text));
        world.point(&[&old]);
        world.point(&[&new]);
        world.sweep(0).unwrap();
        assert_eq!(world.sweep(1_000).unwrap(), Swept::default(), "nobody ordered anything");
        world.order(1, &[]);
        let needed = Kind::Inventories.object(&world.repository(), &world.inventories[1]);
        let content = world.store.read(&needed).unwrap();
        world.store.replace(&needed, b"damaged").unwrap();
        for now in [2_000, 3_000] {
            let error = world.sweep(now).unwrap_err().to_string();
            assert!(error.contains("Nothing of this embassy is freed"), "{error}");
        }
        assert!(world.holds(&old));
        world.store.replace(&needed, &content).unwrap();
        world.sweep(4_000).unwrap();
        assert_eq!(world.sweep(5_000).unwrap().freed, 1);
    }

    #[test]
    fn the_newest_point_of_an_epoch_stays_whatever_is_ordered() {
        let mut world = World::new();
        let [one, two] = ["one", "two"].map(|text| world.pack(text));
        world.point(&[&one]);
        world.point(&[&two]);
        world.order(9, &[]);
        for now in [0, 1_000, 2_000] {
            world.sweep(now).unwrap();
        }
        assert!(world.holds(&two) && !world.holds(&one));
    }

    /// Copies, orders and rounds in any order, and copies that began long before they are committed: no point that stays ever
    /// lacks a pack, and in the end nothing is left that nobody needs.
    #[test]
    fn no_point_that_stays_ever_loses_a_pack() {
        let mut freed = 0;
        for seed in 0..150 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut world = World::new();
            let (mut now, mut made, mut given) = (0, 0, BTreeSet::new());
            let mut first_seen: Vec<i64> = vec![];
            let mut under_way: Option<(BTreeSet<String>, String)> = None;
            for _ in 0..60 {
                now += random.i64(0..40);
                match random.u8(0..4) {
                    0 | 1 => {
                        let condemned =
                            condemned::read(&*world.store, &world.embassy.condemned("1-tallinn")).unwrap();
                        let usable = packs(&*world.store, &world.repository()).unwrap();
                        let mut needs: BTreeSet<String> = usable
                            .iter()
                            .filter(|pack| !condemned.contains_key(*pack) && random.bool())
                            .map(|pack| format!("data/{pack}"))
                            .collect();
                        made += 1;
                        needs.insert(world.pack(&format!("{seed} {made}")));
                        let inventory = world.inventory(&needs, world.needs.len().is_multiple_of(3));
                        let next = Some((needs, inventory));
                        // It is committed now, or after the one that comes next.
                        let ready =
                            if random.bool() { next } else { std::mem::replace(&mut under_way, next) };
                        if let Some((needs, inventory)) = ready
                            && world.commit(needs, &inventory)
                        {
                            first_seen.push(i64::MAX);
                        }
                    }
                    2 if world.needs.len() > 2 => {
                        let through = i64::try_from(world.needs.len()).unwrap() - 1;
                        given.extend((1..=through).filter(|_| random.bool()));
                        let stay: Vec<i64> = (1..=through).filter(|n| !given.contains(n)).collect();
                        world.order(through, &stay);
                    }
                    _ => {
                        for seen in &mut first_seen {
                            *seen = (*seen).min(now);
                        }
                        freed += world.sweep(now).unwrap().freed;
                    }
                }
                for (index, needs) in world.needs.iter().enumerate() {
                    let sequence = i64::try_from(index).unwrap() + 1;
                    let young = first_seen[index] == i64::MAX || now - first_seen[index] < RULES.least;
                    let stays = !given.contains(&sequence) || index + 1 == world.needs.len() || young;
                    let lost: Vec<&String> = needs.iter().filter(|pack| !world.holds(pack)).collect();
                    assert!(!stays || lost.is_empty(), "seed {seed}: point {sequence} lost {lost:?}");
                }
            }
            if world.order.is_some() {
                for later in [1_000, 2_000, 3_000] {
                    freed += world.sweep(now + later).unwrap().freed;
                }
                let last = i64::try_from(world.needs.len()).unwrap();
                let stay = (1..).zip(&world.needs).filter(|(n, _)| !given.contains(n) || *n == last);
                let needed: BTreeSet<&String> = stay.flat_map(|(_, needs)| needs).collect();
                let left = packs(&*world.store, &world.repository()).unwrap();
                let unneeded = left.iter().filter(|pack| !needed.contains(&format!("data/{pack}")));
                assert_eq!(unneeded.count(), 0, "seed {seed}");
            }
        }
        assert!(freed > 100, "the histories freed only {freed} packs");
    }
}
