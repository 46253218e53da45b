/// Ends passes of a source that are under way, from another thread; see
/// [`LogitSource::interrupt`](crate::LogitSource::interrupt).
pub trait Interrupt: Send + Sync {
    /// From now on passes end as soon as they can, the one under way included, with an error of kind
    /// [`Cancelled`](crate::ErrorKind::Cancelled) that leaves every sequence as it was.
    fn raise(&self);

    /// Passes run again.
    fn lower(&self);
}
