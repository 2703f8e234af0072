//! Whether bytes are a prefix of other bytes, told from the points' lineage: nobody can compare two sites' volumes.
//!
//! Within one epoch only one site ever writes (I2), so its points are prefixes of each other in their sequence. Across
//! epochs a point names those on which its line was built. Equal digests are equal bytes, wherever they lie.

use super::view::Point;
use crate::api::failover_record::DataPoint;

/// Whether everything written up to `bytes` is in `point`.
#[must_use]
pub fn is_prefix(bytes: &DataPoint, point: &Point) -> bool {
    let before = |line: &DataPoint| {
        bytes.point.epoch == line.point.epoch && bytes.point.sequence <= line.point.sequence
    };
    let on_line =
        |line: &DataPoint| before(line) || (!bytes.digest.is_empty() && bytes.digest == line.digest);
    on_line(&point.data) || point.ancestry.iter().any(on_line)
}

/// Whether two points hold the same bytes.
#[must_use]
pub fn same_bytes(one: &DataPoint, other: &DataPoint) -> bool {
    one == other || (!one.digest.is_empty() && one.digest == other.digest)
}

/// The ancestry of a reign that begins with `base`: all that led to it, and itself.
#[must_use]
pub fn of_reign(ancestry: &[DataPoint], base: Option<&DataPoint>) -> Vec<DataPoint> {
    let mut line: Vec<DataPoint> = ancestry.to_vec();
    line.extend(base.filter(|base| line.last() != Some(*base)).cloned());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(point: &str, digest: &str) -> DataPoint {
        DataPoint { point: point.parse().unwrap(), digest: digest.to_owned() }
    }

    fn point(of: &str, digest: &str, ancestry: &[DataPoint]) -> Point {
        Point { data: data(of, digest), ancestry: ancestry.to_vec() }
    }

    #[test]
    fn earlier_points_of_one_epoch_are_prefixes() {
        let newest = point("1/tallinn/7", "g", &[]);
        assert!(is_prefix(&data("1/tallinn/6", "f"), &newest));
        assert!(!is_prefix(&data("1/tallinn/8", "h"), &newest));
    }

    #[test]
    fn what_a_reign_was_built_on_is_a_prefix_and_what_came_later_is_not() {
        let abroad = point("2/luxembourg/3", "z", &[data("1/tallinn/7", "g")]);
        assert!(is_prefix(&data("1/tallinn/7", "g"), &abroad));
        assert!(is_prefix(&data("1/tallinn/2", "b"), &abroad));
        assert!(!is_prefix(&data("1/tallinn/8", "h"), &abroad), "written at home after the takeover point");
    }

    #[test]
    fn a_later_point_with_the_same_bytes_is_a_prefix() {
        let abroad = point("2/luxembourg/3", "z", &[data("1/tallinn/7", "g")]);
        assert!(is_prefix(&data("1/tallinn/8", "g"), &abroad), "home wrote nothing after the takeover point");
    }

    #[test]
    fn an_unknown_digest_equals_nothing() {
        assert!(!same_bytes(&data("1/tallinn/7", ""), &data("2/luxembourg/1", "")));
    }
}
