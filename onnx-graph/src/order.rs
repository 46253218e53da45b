//! Orders in which everything comes after what it needs, and circles where there is none.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
};

use logitfuse_core::Result;

use crate::{
    error::invalid,
    model::same_domain,
    proto::{Function, Node},
    validate::called,
    walk::bodies_of,
};

/// Nodes that a model has once its functions stand in the place of their calls.
const MAX_INLINED_NODES: u64 = 10_000_000;

/// The order of the nodes in which the first of each edge comes before the second, as near to theirs as can be; `None` if
/// it is theirs.
pub(crate) fn sorted(nodes: &[Node], edges: &[(usize, usize)]) -> Result<Option<Vec<usize>>> {
    if edges.iter().all(|(before, after)| before < after) {
        return Ok(None);
    }
    order(nodes.len(), edges).map(Some).map_err(|(a, b)| {
        invalid(if a == b {
            format!("{} waits for its own result", called(&nodes[a]))
        } else {
            format!("{} and {} wait for each other's results", called(&nodes[a]), called(&nodes[b]))
        })
    })
}

/// Checks that no function calls itself, through others neither, and that calls do not multiply without bounds: each
/// function that calls the next one twice doubles what a runtime has to hold.
pub(crate) fn check_functions(functions: &[Function], nodes: &[Node]) -> Result<()> {
    let by_name = by_name(functions)?;
    let calls: Vec<Calls> = functions.iter().map(|function| Calls::of(&function.node, &by_name)).collect();
    let mut inlined = vec![0_u64; functions.len()];
    for index in order_of_calls(functions, &calls)? {
        inlined[index] = calls[index].inlined(&inlined);
    }
    if Calls::of(nodes, &by_name).inlined(&inlined) > MAX_INLINED_NODES {
        return Err(invalid(format!(
            "its functions call each other until there are more than {MAX_INLINED_NODES} nodes"
        )));
    }
    Ok(())
}

/// The functions in an order in which each comes after those that it calls.
pub(crate) fn callees_first(functions: &[Function]) -> Result<Vec<usize>> {
    let by_name = by_name(functions)?;
    let calls: Vec<Calls> = functions.iter().map(|function| Calls::of(&function.node, &by_name)).collect();
    order_of_calls(functions, &calls)
}

/// Domain, name and overload.
type Key<'a> = (&'a str, &'a str, &'a str);

fn key<'a>(domain: &'a str, name: &'a str, overload: &'a str) -> Key<'a> {
    (if same_domain(domain, "") { "" } else { domain }, name, overload)
}

fn by_name(functions: &[Function]) -> Result<HashMap<Key<'_>, usize>> {
    let mut by_name = HashMap::new();
    for (index, function) in functions.iter().enumerate() {
        if by_name.insert(key(function.domain(), function.name(), function.overload()), index).is_some() {
            let (name, domain) = (function.name(), function.domain());
            return Err(invalid(format!("function `{name}` of domain `{domain}` is there twice")));
        }
    }
    Ok(by_name)
}

fn order_of_calls(functions: &[Function], calls: &[Calls]) -> Result<Vec<usize>> {
    let of = |(caller, calls): (usize, &Calls)| {
        calls.functions.keys().map(|&function| (function, caller)).collect::<Vec<_>>()
    };
    let edges: Vec<(usize, usize)> = calls.iter().enumerate().flat_map(of).collect();
    order(functions.len(), &edges).map_err(|(a, b)| {
        invalid(if a == b {
            format!("function `{}` calls itself", functions[a].name())
        } else {
            format!("functions `{}` and `{}` call each other", functions[a].name(), functions[b].name())
        })
    })
}

/// What a list of nodes and the bodies in it consist of.
#[derive(Default)]
struct Calls {
    nodes: u64,
    functions: BTreeMap<usize, u64>,
}

impl Calls {
    fn of(nodes: &[Node], by_name: &HashMap<Key<'_>, usize>) -> Self {
        let mut calls = Self::default();
        calls.count(nodes, by_name);
        calls
    }

    fn count(&mut self, nodes: &[Node], by_name: &HashMap<Key<'_>, usize>) {
        for node in nodes {
            self.nodes += 1;
            if let Some(&function) = by_name.get(&key(node.domain(), node.op_type(), node.overload())) {
                *self.functions.entry(function).or_default() += 1;
            }
            bodies_of(node).for_each(|body| self.count(&body.node, by_name));
        }
    }

    fn inlined(&self, functions: &[u64]) -> u64 {
        let calls = self.functions.iter().map(|(&function, &times)| functions[function].saturating_mul(times));
        calls.fold(self.nodes, u64::saturating_add)
    }
}

/// An order of `count` things in which the first of each edge comes before the second, and earlier ones earlier where both
/// may be; or two that stand on one circle.
fn order(count: usize, edges: &[(usize, usize)]) -> Result<Vec<usize>, (usize, usize)> {
    let mut waits_for = vec![0_usize; count];
    let mut first = vec![0_usize; count + 1];
    for &(before, after) in edges {
        waits_for[after] += 1;
        first[before + 1] += 1;
    }
    for index in 0..count {
        first[index + 1] += first[index];
    }
    let mut followers = vec![0_usize; edges.len()];
    let mut next = first.clone();
    for &(before, after) in edges {
        followers[next[before]] = after;
        next[before] += 1;
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..count).filter(|&index| waits_for[index] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(count);
    while let Some(Reverse(index)) = ready.pop() {
        order.push(index);
        for &follower in &followers[first[index]..first[index + 1]] {
            waits_for[follower] -= 1;
            if waits_for[follower] == 0 {
                ready.push(Reverse(follower));
            }
        }
    }
    if order.len() == count { Ok(order) } else { Err(circle(&waits_for, edges)) }
}

/// Two neighbours on a circle of what still waits, or one twice.
fn circle(waits_for: &[usize], edges: &[(usize, usize)]) -> (usize, usize) {
    let mut before = HashMap::new();
    for &(from, to) in edges.iter().filter(|(from, to)| waits_for[*from] > 0 && waits_for[*to] > 0) {
        before.entry(to).or_insert(from);
    }
    // All that waits waits for something that waits: going back from anywhere ends on a circle after as many steps.
    let back = |at: usize| before.get(&at).copied().unwrap_or(at);
    let mut at = waits_for.iter().position(|&waits| waits > 0).unwrap_or_default();
    for _ in waits_for {
        at = back(at);
    }
    (back(at).min(at), back(at).max(at))
}
