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
        instruction_class: instruction_class().to_owned(),
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

/// The class within which results are the same bytes.
fn instruction_class() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        let is_v3 = std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2")
            && std::arch::is_x86_feature_detected!("f16c")
            && std::arch::is_x86_feature_detected!("lzcnt")
            && std::arch::is_x86_feature_detected!("movbe");
        if is_v3 { "x86-64-v3" } else { "x86-64" }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::env::consts::ARCH
    }
}
