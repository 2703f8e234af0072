//! Which recovery points are cost by which wrong objects of a repository. Pure, but for reading inventories.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::api::epoch::PointRef;
use crate::mover::failure::Failure;
use crate::plan::verification::{PointRange, Wrong, include};
use crate::vault::inventory::{Inventory, KIND};

/// What is known of the objects of one repository by reading all of them.
#[derive(Debug, Default)]
pub(super) struct Objects {
    /// Each object that is there, such as `data/<sha256>`, and what is wrong with it.
    pub(super) found: HashMap<String, Option<Wrong>>,
    /// SHA-256 of the configuration, if there is one.
    pub(super) config: Option<String>,
}

impl Objects {
    fn wrong(&self, object: &str) -> Option<Wrong> {
        self.found.get(object).map_or(Some(Wrong::Missing), |wrong| *wrong)
    }
}

/// Wrong objects and the points that need them.
pub(super) type Costs = BTreeMap<String, (Wrong, Vec<PointRange>)>;

/// Goes through the points of one epoch in order.
pub(super) struct Needs<'a> {
    objects: &'a Objects,
    /// The inventory read last: its name and the configuration's digest in it.
    at: Option<(String, String)>,
    /// What it needs, and what of that is wrong.
    needed: BTreeSet<String>,
    wrong: BTreeSet<String>,
    /// Index files that are there and cannot be used: whoever opens the repository reads all of them, and stops at these.
    spoiled: BTreeSet<String>,
    costs: Costs,
}

impl<'a> Needs<'a> {
    /// Before the first point.
    pub(super) fn new(objects: &'a Objects) -> Self {
        let alone = |(object, wrong): (&String, &Option<Wrong>)| Some((object.clone(), ((*wrong)?, vec![])));
        let costs = objects.found.iter().filter_map(alone).collect();
        let spoiled = |(object, wrong): (&String, &Option<Wrong>)| {
            let there = wrong.is_some_and(|wrong| wrong != Wrong::Missing);
            (there && object.starts_with("index/")).then(|| object.clone())
        };
        let spoiled = objects.found.iter().filter_map(spoiled).collect();
        Self { objects, at: None, needed: BTreeSet::new(), wrong: BTreeSet::new(), spoiled, costs }
    }

    /// The next point, which needs what the inventory of that name says.
    pub(super) fn point(
        &mut self,
        point: &PointRef,
        name: &str,
        read: &mut impl FnMut(&str) -> Result<Option<Inventory>, Failure>,
    ) -> Result<(), Failure> {
        for object in self.spoiled.clone() {
            let wrong = self.objects.wrong(&object).unwrap_or(Wrong::Altered);
            self.cost(object, wrong, point);
        }
        let config = match self.enter(name, read)? {
            Ok(config) => config,
            Err(file) => {
                // What the point needs is not known.
                let wrong = self.objects.wrong(&file).unwrap_or(Wrong::Altered);
                self.cost(file, wrong, point);
                return Ok(());
            }
        };
        match &self.objects.config {
            Some(found) if *found == config => {}
            Some(_) => self.cost("config".to_owned(), Wrong::Altered, point),
            None => self.cost("config".to_owned(), Wrong::Missing, point),
        }
        for object in self.wrong.clone() {
            let wrong = self.objects.wrong(&object).unwrap_or(Wrong::Missing);
            self.cost(object, wrong, point);
        }
        Ok(())
    }

    /// All wrong objects, those that no point needs included: a later copy may build on them.
    pub(super) fn end(self) -> Costs {
        self.costs
    }

    fn cost(&mut self, object: String, wrong: Wrong, point: &PointRef) {
        let range = PointRange { epoch: point.epoch.clone(), from: point.sequence, to: point.sequence };
        include(&mut self.costs.entry(object).or_insert((wrong, vec![])).1, range);
    }

    /// Makes the inventory the current one; returns the configuration's digest, or the file that cannot be used.
    fn enter(
        &mut self,
        name: &str,
        read: &mut impl FnMut(&str) -> Result<Option<Inventory>, Failure>,
    ) -> Result<Result<String, String>, Failure> {
        let mut line: Vec<Inventory> = vec![];
        let mut next = Some(name.to_owned());
        let at = self.at.as_ref().map(|(name, _)| name.clone());
        while let Some(name) = next.take().filter(|name| at.as_ref() != Some(name)) {
            let file = format!("{KIND}/{name}");
            let sound = self.objects.wrong(&file).is_none();
            let Some(inventory) = (if sound { read(&name)? } else { None }) else { return Ok(Err(file)) };
            next.clone_from(&inventory.base);
            line.push(inventory);
        }
        if line.last().is_some_and(|first| first.base.is_none()) {
            (self.needed, self.wrong) = (BTreeSet::new(), BTreeSet::new());
        }
        let mut config = self.at.take().map_or_else(String::new, |(_, config)| config);
        for inventory in line.into_iter().rev() {
            inventory.apply(&mut self.needed);
            self.wrong.retain(|object| !inventory.dropped.contains(object));
            let wrong = inventory.added.iter().filter(|object| self.objects.wrong(object).is_some());
            self.wrong.extend(wrong.cloned());
            config = inventory.config;
        }
        self.at = Some((name.to_owned(), config.clone()));
        Ok(Ok(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(base: Option<&str>, added: &[&str], dropped: &[&str]) -> Inventory {
        let value = serde_json::json!({
            "version": 1, "base": base, "depth": 0, "config": "c", "added": added, "dropped": dropped,
        });
        Inventory::parse(value.to_string().as_bytes()).unwrap()
    }

    /// Points 1 to 4 of an epoch: `data/b` is in 1 and 2, `data/c` from 2 on; 4 stands alone.
    fn costs(change: impl FnOnce(&mut Objects)) -> BTreeMap<String, (Wrong, String)> {
        let inventories = HashMap::from([
            ("i1", inventory(None, &["data/a", "data/b"], &[])),
            ("i2", inventory(Some("i1"), &["data/c"], &[])),
            ("i3", inventory(Some("i2"), &[], &["data/b"])),
            ("i4", inventory(None, &["data/c"], &[])),
        ]);
        let mut objects = Objects { config: Some("c".to_owned()), ..Objects::default() };
        for object in ["data/a", "data/b", "data/c", "data/unused"] {
            objects.found.insert(object.to_owned(), None);
        }
        for name in inventories.keys() {
            objects.found.insert(format!("{KIND}/{name}"), None);
        }
        change(&mut objects);
        let mut needs = Needs::new(&objects);
        let epoch: crate::api::epoch::Epoch = "1/a".parse().unwrap();
        for (sequence, name) in [(1, "i1"), (2, "i2"), (3, "i3"), (4, "i4")] {
            let point = PointRef { epoch: epoch.clone(), sequence };
            needs.point(&point, name, &mut |name| Ok(inventories.get(name).cloned())).unwrap();
        }
        let text = |points: Vec<PointRange>| crate::plan::verification::list(&points);
        needs.end().into_iter().map(|(file, (wrong, points))| (file, (wrong, text(points)))).collect()
    }

    fn one(file: &str, wrong: Wrong, points: &str) -> BTreeMap<String, (Wrong, String)> {
        BTreeMap::from([(file.to_owned(), (wrong, points.to_owned()))])
    }

    #[test]
    fn nothing_wrong_costs_nothing() {
        assert_eq!(costs(|_| {}), BTreeMap::new());
    }

    #[test]
    fn a_wrong_object_costs_the_points_that_need_it() {
        let spoil = |object: &'static str| {
            costs(move |objects| objects.found.extend([(object.to_owned(), Some(Wrong::Altered))]))
        };
        assert_eq!(spoil("data/a"), one("data/a", Wrong::Altered, "1/a/1-3"));
        assert_eq!(spoil("data/b"), one("data/b", Wrong::Altered, "1/a/1-2"));
        assert_eq!(spoil("data/c"), one("data/c", Wrong::Altered, "1/a/2-4"));
        assert_eq!(spoil("data/unused"), one("data/unused", Wrong::Altered, ""));
    }

    #[test]
    fn a_spoiled_index_costs_all_and_a_lost_one_who_needs_it() {
        let spoiled = costs(|objects| objects.found.extend([("index/x".to_owned(), Some(Wrong::Altered))]));
        assert_eq!(spoiled, one("index/x", Wrong::Altered, "1/a/1-4"));
        let lost = costs(|objects| objects.found.extend([("index/x".to_owned(), Some(Wrong::Missing))]));
        assert_eq!(lost, one("index/x", Wrong::Missing, ""));
    }

    #[test]
    fn a_missing_object_is_missed() {
        assert_eq!(
            costs(|objects| objects.found.retain(|object, _| object != "data/b")),
            one("data/b", Wrong::Missing, "1/a/1-2")
        );
        let none = costs(|objects| *objects = Objects::default());
        assert_eq!(none["inventories/i1"], (Wrong::Missing, "1/a/1".to_owned()));
    }

    #[test]
    fn an_unneeded_object_that_is_gone_is_no_damage() {
        assert_eq!(
            costs(|objects| objects.found.retain(|object, _| object != "data/unused")),
            BTreeMap::new()
        );
    }

    #[test]
    fn a_wrong_configuration_costs_all() {
        assert_eq!(costs(|objects| objects.config = None), one("config", Wrong::Missing, "1/a/1-4"));
        let other = costs(|objects| objects.config = Some("x".to_owned()));
        assert_eq!(other, one("config", Wrong::Altered, "1/a/1-4"));
    }

    #[test]
    fn a_wrong_inventory_costs_those_that_build_on_it() {
        let spoiled = costs(|objects| objects.found.extend([(format!("{KIND}/i2"), Some(Wrong::Altered))]));
        assert_eq!(spoiled, one("inventories/i2", Wrong::Altered, "1/a/2-3"));
    }
}
