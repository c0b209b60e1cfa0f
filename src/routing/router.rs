//! The rules, as the tree asks them.

use std::collections::BTreeMap;
use std::sync::Arc;

use remuda_actors::ids::EnvironmentId;
use remuda_actors::ports::{Execution, Route, Router, Session};
use remuda_actors::secret::Secret;

use super::judge::{Facts, Findings};
use super::rule::{Mode, Rule};
use crate::worker::{Command, HostCommand, SandboxProgram};

/// What the rules need to know of the process they hold in.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The control plane's address, for workers.
    pub base_url: String,
    /// The queues' keys, for workers that ask for them.
    pub keys: BTreeMap<EnvironmentId, Secret>,
}

/// The rules of a file, with what each decides ready to be handed out.
#[derive(Debug)]
pub struct TableRouter {
    rules: Vec<Rule>,
    /// By the rules' places.
    routes: Vec<Arc<Route>>,
    default: Arc<Route>,
}

impl TableRouter {
    /// Takes the rules of a file.
    ///
    /// # Errors
    /// The variable that a rule passes on and that is not set.
    pub fn new(rules: Vec<Rule>, surroundings: &Surroundings) -> Result<Self, String> {
        let routes: Result<_, String> =
            rules.iter().map(|rule| route(rule, surroundings).map(Arc::new)).collect();
        Ok(Self { routes: routes?, rules, default: Arc::default() })
    }
}

fn route(rule: &Rule, surroundings: &Surroundings) -> Result<Route, String> {
    let decision = &rule.decision;
    let command = |argv: &[String], variables: &[String]| {
        Command::new(argv, variables, surroundings)
            .map_err(|name| format!("{rule} passes {name} on, which is not set"))
    };
    Ok(Route {
        rule: Some(rule.to_string().into()),
        image: decision.image.as_deref().map(Into::into),
        limits: decision.limits.clone(),
        standby_after: decision.standby_after,
        max_idle: decision.max_idle.map(|time| Some(time).filter(|time| !time.is_zero())),
        execution: match &decision.mode {
            Mode::Brokered => Execution::Brokered,
            Mode::Worker { command: argv, variables } => {
                Execution::Sandboxed(Arc::new(SandboxProgram::new(command(argv, variables)?)))
            }
            Mode::Command { command: argv, variables } => {
                Execution::Hosted(Arc::new(HostCommand::new(command(argv, variables)?)))
            }
        },
    })
}

impl Router for TableRouter {
    fn may_delegate(&self, environment: &EnvironmentId) -> bool {
        let is_for = |rule: &&Rule| {
            rule.when
                .environment
                .as_ref()
                .is_none_or(|environments| environments.contains(environment.as_str()))
        };
        self.rules.iter().filter(is_for).any(|rule| rule.decision.mode != Mode::Brokered)
    }

    fn route(&self, environment: &EnvironmentId, session: &Session) -> Arc<Route> {
        let facts = Facts {
            environment: environment.to_string(),
            agent: session.facts.agent.as_deref().map(str::to_owned),
            agent_name: session.facts.agent_name.as_deref().map(str::to_owned),
            metadata: session.facts.metadata.clone(),
        };
        let decided = Findings::of(&self.rules, &facts).decided_by().map(|rule| rule.number - 1);
        Arc::clone(decided.and_then(|index| self.routes.get(index)).unwrap_or(&self.default))
    }
}
