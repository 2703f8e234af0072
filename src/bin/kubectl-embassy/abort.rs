//! `kubectl embassy abort`: takes a planned switch back.

use std::process::ExitCode;

use data_embassy::api::failover_record::Role;
use kube::Client;

use super::{
    Failure,
    acknowledge::Acknowledged,
    order::{check, give, order},
    register::Register,
};

/// Orders the role back to this site, and follows.
pub async fn run(client: &Client, arguments: &Acknowledged) -> Result<ExitCode, Failure> {
    let register = Register::read(client, &arguments.register).await?;
    let record = &register.record;
    let target = record.intent.as_ref().map_or("the other site", |intent| intent.site.as_str());
    match record.role {
        Role::Demoting => {
            register.headline();
            println!("Nothing was handed over yet: the register starts again here at once.");
        }
        Role::Demoted => {
            register.headline();
            println!("The register was handed over to {target}. It will:");
            println!("  1. ask {target} to let the switch pass; it does, unless it has started the register");
            println!("  2. start the register here as soon as {target} has confirmed; not before");
            println!("If {target} has started it already, this has no effect: order the switch back there.");
        }
        role => {
            return Err(format!(
                "nothing was done: no planned switch is under way here in {}, which is {}. A switch is taken back at \
                 the site that had the role; {}",
                record.site,
                role.as_str(),
                register.status().active_site.map_or_else(
                    || "kubectl embassy status says where that is".to_owned(),
                    |active| format!("the register runs in {active} now")
                )
            )
            .into());
        }
    }
    let order = order(&register, &record.site, None);
    check(&register, &order)?;
    arguments.acknowledgement.ask(&format!("keep {} in {}", register.name, record.site))?;
    give(&register, &order).await
}
