//! Which member reads which partition.

use std::collections::BTreeMap;

use types::Text;

/// Gives each of the partitions `0..count` to one member, no member more than one above another, and leaves as many where they are as
/// that allows. `owned` holds what each member has, ascending, and is changed in place.
pub(super) fn assign(count: u32, owned: &mut BTreeMap<Text, Vec<u32>>) {
    let members = u32::try_from(owned.len()).unwrap_or(u32::MAX);
    let (Some(base), Some(mut extra)) = (count.checked_div(members), count.checked_rem(members)) else { return };
    // Those who have most keep one more, as far as there is one more to have.
    let mut order: Vec<(&Text, &mut Vec<u32>)> = owned.iter_mut().collect();
    order.sort_by_key(|(_, partitions)| std::cmp::Reverse(partitions.len()));
    let mut taken = vec![false; count as usize];
    let mut short: Vec<(&mut Vec<u32>, usize)> = Vec::new();
    for (_, partitions) in order {
        let quota = base + u32::from(extra > 0);
        extra = extra.saturating_sub(1);
        partitions.retain(|partition| *partition < count);
        partitions.truncate(quota as usize);
        for partition in partitions.iter() {
            if let Some(taken) = taken.get_mut(*partition as usize) {
                *taken = true;
            }
        }
        short.push((partitions, quota as usize));
    }
    let mut free = (0..count).zip(taken).filter(|(_, taken)| !taken).map(|(partition, _)| partition);
    for (partitions, quota) in short {
        let missing = quota.saturating_sub(partitions.len());
        partitions.extend(free.by_ref().take(missing));
        partitions.sort_unstable();
    }
}
