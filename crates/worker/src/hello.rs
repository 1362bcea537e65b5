//! How a worker introduces itself.

use crate::Config;
use dewar_proto::v1;
use dewar_task::KernelInfo;

/// The first message of every connection. `held` is what this worker has not been relieved of.
pub(crate) fn hello(
    config: &Config,
    worker_id: [u8; 16],
    kernels: &[KernelInfo],
    held: Vec<v1::HeldAttempt>,
) -> v1::Hello {
    let kernels: Vec<_> = kernels.iter().map(kernel).collect();
    v1::Hello {
        protocol: Some(dewar_proto::PROTOCOL),
        worker_id: worker_id.to_vec(),
        name: config.name.clone(),
        host_name: dewar_settings::host_name(),
        slot_count: config.slot_count.into(),
        kinds: kernels
            .iter()
            .filter_map(|kernel| kernel.kind.clone())
            .collect(),
        site: config.site.clone(),
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        instruction_class: dewar_task::instruction_class().to_owned(),
        held,
        memory_bytes: config.memory_bytes,
        kernels,
    }
}

fn kernel(info: &KernelInfo) -> v1::Kernel {
    v1::Kernel {
        kind: Some(v1::Kind {
            name: info.kind.name.clone(),
            version: info.kind.version,
        }),
        revision: info.revision,
        deterministic: info.is_deterministic,
    }
}
