//! Mistakes that an implementation of the rules could make. Each is made in the translation to Cedar, so that the comparison shows
//! whether its stores and questions would find it in the product.

/// One way in which the two sides differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Members of a group do not have what its bindings give.
    GroupsGiveNothing,
    /// A user and a service account of one name are one subject.
    KindsOfSubjectsAreOne,
    /// A disabled account goes on.
    DisabledAccountsAct,
    /// A token is valid at its last instant.
    ExpiredOneLate,
    /// A token passes to a new account of its owner's name.
    TokensPassToNamesakes,
    /// A credential allows what its maker may not do.
    MakersDoNotCap,
    /// A maker who may `grant` a right does not count as one who holds it.
    GrantDoesNotCover,
    /// A credential outlives the account that made it.
    MakersMayBeGone,
    /// What follows a star in a pattern is not read.
    WildcardsEndNames,
    /// A built-in role allows what the store has under its name.
    BuiltinRolesAreEdited,
    /// A path that has the shape of an id is read as a name.
    IdsAreNotRead,
    /// An id of another kind is found.
    IdsOfEveryKind,
    /// Who may do this to every resource is not told that there is none.
    MissingLooksForbidden,
    /// Agents may fall back from an Llm that does not let them.
    FailoverOffIsNotRead,
    /// To view an Llm suffices where it requires `run`.
    RunIsNotRequired,
    /// A caller who may run an Llm and not view it may fall back.
    FailoverNeedsNoView,
    /// A narrowed token may do what its owner may.
    NarrowingIsNotRead,
    /// A narrowed token may do what its owner may not.
    NarrowingAdds,
    /// A narrowed token is told that there is nothing of a name where its owner would be.
    NarrowedTokensLearnNames,
    /// A group's claims make no one a member.
    ClaimsAreNotRead,
    /// A claim counts for every credential of the user.
    ClaimsOutliveTheSession,
    /// A value of one provider counts as that of another.
    ClaimsOfEveryIssuer,
    /// Values are compared without regard to case.
    ClaimsIgnoreCase,
    /// The maker of a credential has only the groups that list it.
    MakersHaveNoClaims,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 24] = [
        Self::GroupsGiveNothing,
        Self::KindsOfSubjectsAreOne,
        Self::DisabledAccountsAct,
        Self::ExpiredOneLate,
        Self::TokensPassToNamesakes,
        Self::MakersDoNotCap,
        Self::GrantDoesNotCover,
        Self::MakersMayBeGone,
        Self::WildcardsEndNames,
        Self::BuiltinRolesAreEdited,
        Self::IdsAreNotRead,
        Self::IdsOfEveryKind,
        Self::MissingLooksForbidden,
        Self::FailoverOffIsNotRead,
        Self::RunIsNotRequired,
        Self::FailoverNeedsNoView,
        Self::NarrowingIsNotRead,
        Self::NarrowingAdds,
        Self::NarrowedTokensLearnNames,
        Self::ClaimsAreNotRead,
        Self::ClaimsOutliveTheSession,
        Self::ClaimsOfEveryIssuer,
        Self::ClaimsIgnoreCase,
        Self::MakersHaveNoClaims,
    ];
}
