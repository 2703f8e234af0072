//! Drills that stay to serve readers: when the next one begins, which of them is served, and what a standby says of it.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Service, ServiceSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
    jiff::Timestamp,
};
use kube::ResourceExt;

use super::super::desired::Owner;
use super::{LONGEST_NAME, fitted, since};
use crate::api::{
    Drill,
    drill::{DrillPhase, DrillSpec},
    duration,
    epoch::PointRef,
    reading::Reading,
};

/// After an attempt that failed, the next one like it begins no sooner.
const PAUSE: Duration = Duration::from_mins(5);
/// A first restore may take long; nothing waits for it.
const TIMEOUT: &str = "7d";
/// What the Services that readers use are called after those of the register.
const SUFFIX: &str = "-reading";
/// So long an older one stays after a newer one is served: readers may have asked for the name just before.
const LINGER: Duration = Duration::from_secs(20);

/// Drills that stay, whatever their phase.
fn all(drills: &[Drill]) -> impl Iterator<Item = &Drill> {
    drills.iter().filter(|drill| drill.spec.serve.is_some() && drill.metadata.deletion_timestamp.is_none())
}

/// Those that serve, the newest first.
#[must_use]
pub fn serving(drills: &[Drill]) -> Vec<&Drill> {
    let mut found: Vec<&Drill> = all(drills).filter(|drill| drill.serves()).collect();
    found.sort_by_key(|drill| std::cmp::Reverse(begun(drill)));
    found
}

/// Whether readers are led to this one of those that serve.
#[must_use]
pub fn leads(drill: &Drill, drills: &[Drill]) -> bool {
    serving(drills).first().is_some_and(|newest| newest.uid() == drill.uid())
}

/// Why one that serves is no longer needed: readers are led to a newer one, and have had time to notice.
#[must_use]
pub fn replaced(drill: &Drill, drills: &[Drill], now: Timestamp) -> Option<String> {
    let newest = serving(drills).first().copied().filter(|newest| newest.uid() != drill.uid())?;
    let noticed = begun(newest).is_some_and(|begun| since(begun, now) >= LINGER);
    let point = newest.status.as_ref()?.recovery_point.as_ref()?;
    noticed.then(|| format!("{point} is served now"))
}

/// Those that have ended; only the last one stays, where it says why nothing is served that is `wanted`.
#[must_use]
pub fn ended(drills: &[Drill], wanted: bool) -> Vec<&Drill> {
    let mut found: Vec<&Drill> = all(drills).filter(|drill| drill.has_ended()).collect();
    found.sort_by_key(|drill| std::cmp::Reverse(over(drill)));
    let keep = wanted && found.first().is_some_and(|last| failed(last) && serving(drills).is_empty());
    found.into_iter().skip(usize::from(keep)).collect()
}

/// Whether the next one is to begin.
#[must_use]
pub fn is_due(reading: &Reading, drills: &[Drill], newest: &PointRef, now: Timestamp) -> bool {
    let every = duration::parse(&reading.every).unwrap_or(Duration::MAX);
    let as_wanted = |drill: &Drill| drill.spec.serve.as_ref() == Some(&reading.serve);
    let failed = all(drills).filter(|drill| failed(drill) && as_wanted(drill)).filter_map(over).max();
    let under_way = all(drills).any(|drill| !drill.has_ended() && !drill.serves());
    let is_exchanged = serving(drills).len() > 1;
    if under_way || is_exchanged || failed.is_some_and(|at| since(at, now) < every.max(PAUSE)) {
        return false;
    }
    let Some(served) = serving(drills).first().copied() else { return true };
    let point = served.status.as_ref().and_then(|status| status.recovery_point.as_ref());
    let is_old = begun(served).is_none_or(|begun| since(begun, now) >= every);
    !as_wanted(served) || (point < Some(newest) && is_old)
}

/// The drill that begins at that time.
#[must_use]
pub fn next(reading: &Reading, owner: &Owner, now: Timestamp) -> Drill {
    let suffix = format!("{SUFFIX}-{}", now.strftime("%Y%m%d-%H%M%S"));
    let spec = DrillSpec {
        embassy: owner.name.clone(),
        recovery_point: None,
        checks: vec![],
        exclude: vec![],
        timeout: TIMEOUT.to_owned(),
        serve: Some(reading.serve.clone()),
    };
    let mut drill = Drill::new(&fitted(&owner.name, &suffix), spec);
    drill.metadata.labels = Some(owner.labels());
    drill
}

/// Names that stay while what is behind them is exchanged: for each Service of the register one in the protected namespace, and the
/// Services that can have none. `there` are all Services of the protected namespace: one of the register's is never replaced.
#[must_use]
pub fn services(
    owner: &Owner,
    drill: &OwnerReference,
    namespace: &str,
    domain: &str,
    served: &[Service],
    there: &[Service],
) -> (Vec<Service>, Vec<String>) {
    let ours = owner.labels();
    let is_ours =
        |service: &Service| ours.iter().all(|label| service.labels().get_key_value(label.0) == Some(label));
    let is_free = |name: &String| {
        let alias = format!("{name}{SUFFIX}");
        alias.len() <= LONGEST_NAME
            && !served.iter().any(|captured| captured.name_any() == alias)
            && !there.iter().any(|other| other.name_any() == alias && !is_ours(other))
    };
    let (free, taken): (Vec<String>, Vec<String>) =
        served.iter().map(ResourceExt::name_any).partition(is_free);
    let named = free.into_iter().map(|name| Service {
        metadata: ObjectMeta {
            name: Some(format!("{name}{SUFFIX}")),
            namespace: Some(owner.namespace.clone()),
            labels: Some(ours.clone()),
            owner_references: Some(vec![drill.clone()]),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some("ExternalName".to_owned()),
            external_name: Some(format!("{name}.{namespace}.svc.{domain}")),
            ..ServiceSpec::default()
        }),
        status: None,
    });
    (named.collect(), taken)
}

/// What a standby says of its readers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// What is served, and when it began.
    pub served: Option<(PointRef, Timestamp)>,
    /// What of it is not ready, in words.
    pub unready: Option<String>,
    /// Why the last attempt failed, if none has succeeded since.
    pub failed: Option<String>,
    /// What the one that is under way does.
    pub doing: Option<String>,
}

/// What a standby says of its readers, by all drills that it knows of.
#[must_use]
pub fn standing(drills: &[Drill]) -> Standing {
    let served = serving(drills).first().copied();
    let point = |drill: &Drill| Some((drill.status.as_ref()?.recovery_point.clone()?, begun(drill)?.0));
    let last = all(drills).filter(|drill| failed(drill)).max_by_key(|drill| over(drill));
    let is_news = |last: &&Drill| served.is_none_or(|served| begun(served) < over(last));
    let message = |drill: &Drill| drill.status.as_ref()?.message.clone();
    let unready = |drill: &Drill| {
        let check = drill.status.as_ref()?.checks.iter().find(|check| !check.passed)?;
        Some(check.message.clone())
    };
    let under_way = all(drills).find(|drill| !drill.has_ended() && !drill.serves());
    Standing {
        served: served.and_then(point),
        unready: served.and_then(unready),
        failed: last.filter(is_news).and_then(message),
        doing: under_way.and_then(message),
    }
}

fn failed(drill: &Drill) -> bool {
    drill.status.as_ref().and_then(|status| status.phase) == Some(DrillPhase::Failed)
}

fn begun(drill: &Drill) -> Option<&Time> {
    drill.status.as_ref()?.ready_at.as_ref()
}

fn over(drill: &Drill) -> Option<&Time> {
    drill.status.as_ref()?.ended_at.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::drill::{CheckResult, DrillStatus};

    fn owner() -> Owner {
        Owner { namespace: "gazette".to_owned(), name: "gazette".to_owned() }
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + minute * 60).unwrap()
    }

    fn drill(minute: i64, phase: DrillPhase, point: &str) -> Drill {
        let mut made = next(&Reading::default(), &owner(), at(minute));
        let time = Some(Time(at(minute)));
        made.metadata.uid = Some(format!("{minute}"));
        made.status = Some(DrillStatus {
            phase: Some(phase),
            recovery_point: Some(point.parse().unwrap()),
            message: Some("it is so".to_owned()),
            ready_at: time.clone().filter(|_| phase == DrillPhase::Serving),
            ended_at: time.filter(|_| phase.is_final()),
            ..DrillStatus::default()
        });
        made
    }

    fn due(drills: &[Drill], newest: &str, minute: i64) -> bool {
        is_due(&Reading::default(), drills, &newest.parse().unwrap(), at(minute))
    }

    #[test]
    fn what_is_served_is_exchanged_when_it_is_old_and_there_is_newer() {
        assert!(due(&[], "1/tallinn/1", 0));
        let served = [drill(0, DrillPhase::Serving, "1/tallinn/1")];
        assert!(!due(&served, "1/tallinn/9", 59));
        assert!(due(&served, "1/tallinn/9", 60));
        assert!(!due(&served, "1/tallinn/1", 60), "there is nothing newer");
        let both = [served[0].clone(), drill(60, DrillPhase::Restoring, "1/tallinn/9")];
        assert!(!due(&both, "1/tallinn/10", 61), "one is under way");
        let other = Reading {
            serve: crate::api::reading::Serve { replicas: Some(2), ..Default::default() },
            ..Reading::default()
        };
        assert!(
            is_due(&other, &served, &"1/tallinn/1".parse().unwrap(), at(1)),
            "something else is to serve"
        );
    }

    #[test]
    fn after_a_failure_there_is_a_pause_and_what_was_served_stays() {
        let drills =
            [drill(0, DrillPhase::Serving, "1/tallinn/1"), drill(61, DrillPhase::Failed, "1/tallinn/9")];
        assert!(!due(&drills, "1/tallinn/9", 63));
        assert!(due(&drills, "1/tallinn/9", 121));
        let other = Reading {
            serve: crate::api::reading::Serve { replicas: Some(2), ..Default::default() },
            ..Reading::default()
        };
        assert!(is_due(&other, &drills, &"1/tallinn/9".parse().unwrap(), at(63)), "it was changed");
        let standing = standing(&drills);
        assert_eq!(standing.served, Some(("1/tallinn/1".parse().unwrap(), at(0))));
        assert_eq!(standing.failed.as_deref(), Some("it is so"));
        assert_eq!(ended(&drills, true).len(), 1, "it is said already");
        assert!(ended(&drills[1..], true).is_empty(), "it says why nothing is served");
        assert_eq!(ended(&drills[1..], false).len(), 1, "nobody asks");
    }

    #[test]
    fn the_newest_is_served() {
        let drills =
            [drill(0, DrillPhase::Serving, "1/tallinn/1"), drill(61, DrillPhase::Serving, "1/tallinn/9")];
        let found = serving(&drills);
        assert_eq!(found[0].status.as_ref().unwrap().recovery_point.as_ref().unwrap().sequence, 9);
        assert_eq!(standing(&drills).failed, None);
    }

    #[test]
    fn readers_keep_one_name() {
        let served = [Service {
            metadata: ObjectMeta { name: Some("gazette".to_owned()), ..ObjectMeta::default() },
            ..Service::default()
        }];
        let (made, _) =
            services(&owner(), &OwnerReference::default(), "gazette-drill-1", "cluster.local", &served, &[]);
        assert_eq!(made[0].metadata.name.as_deref(), Some("gazette-reading"));
        let spec = made[0].spec.as_ref().unwrap();
        assert_eq!(spec.external_name.as_deref(), Some("gazette.gazette-drill-1.svc.cluster.local"));
    }

    #[test]
    fn no_service_of_the_register_is_ever_replaced() {
        let service = |name: &str| Service {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            ..Service::default()
        };
        let named = |served: &[Service], there: &[Service]| {
            let drill = OwnerReference::default();
            let (made, without) =
                services(&owner(), &drill, "gazette-drill-1", "cluster.local", served, there);
            (made.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), without)
        };
        let gazette = [service("gazette")];
        let mut ours = service("gazette-reading");
        assert_eq!(named(&gazette, std::slice::from_ref(&ours)), (vec![], vec!["gazette".to_owned()]));
        ours.metadata.labels = Some(owner().labels());
        assert_eq!(named(&gazette, &[ours]), (vec!["gazette-reading".to_owned()], vec![]));
        let both = [service("gazette"), service("gazette-reading")];
        assert_eq!(named(&both, &[]).1, ["gazette"], "a takeover will make one of that name");
        assert_eq!(named(&[service(&"l".repeat(56))], &[]).0, Vec::<String>::new());
    }

    #[test]
    fn the_older_one_stays_until_readers_have_noticed() {
        let drills =
            [drill(0, DrillPhase::Serving, "1/tallinn/1"), drill(61, DrillPhase::Serving, "1/tallinn/9")];
        assert!(!leads(&drills[0], &drills) && leads(&drills[1], &drills));
        assert_eq!(replaced(&drills[0], &drills, at(61)), None);
        assert_eq!(replaced(&drills[0], &drills, at(62)).as_deref(), Some("1/tallinn/9 is served now"));
        assert_eq!(replaced(&drills[1], &drills, at(999)), None);
        assert!(!due(&drills, "1/tallinn/10", 999), "there are never three");
    }

    #[test]
    fn what_does_not_answer_is_not_called_served() {
        let mut drills = [drill(0, DrillPhase::Serving, "1/tallinn/1")];
        assert_eq!(standing(&drills).unready, None);
        let message = "Deployment reader: 0 of 2 Pods ready".to_owned();
        let check = CheckResult { name: "ready".to_owned(), passed: false, message: message.clone() };
        drills[0].status.as_mut().unwrap().checks = vec![check];
        assert_eq!(standing(&drills).unready, Some(message));
    }

    #[test]
    fn names_fit() {
        let long = Owner { name: "l".repeat(52), ..owner() };
        assert!(next(&Reading::default(), &long, at(0)).name_any().len() <= 63);
    }
}
