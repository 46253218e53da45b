//! The libraries that a library needs: the loader runs their code with its own, and the hash of the file says nothing of them.
//!
//! Looked for where the loader looks: in what an ELF maps as its dynamic table, not in its section headers, which nothing but
//! tools reads. What code loads at run time (`dlopen`) no table says.

use object::{
    File, elf, macho,
    read::{
        elf::{ElfFile, FileHeader, ProgramHeader},
        macho::{MachHeader, MachOFile},
        pe::{ImageNtHeaders, PeFile},
    },
};

use crate::text;

/// A library that is loaded with another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// As the file names it: `libm.so.6`, `@rpath/libblas.dylib`, `KERNEL32.dll`.
    pub name: String,
    /// Whether it is the C or C++ library or another part of the system, from where the system keeps it.
    pub system: bool,
}

/// More than any library needs.
const MOST: usize = 1 << 12;

/// In the order of the file, each once. The error says what is damaged.
pub(crate) fn dependencies(file: &File<'_>) -> Result<Vec<Dependency>, &'static str> {
    let mut found = Vec::new();
    match file {
        File::Elf32(file) => of_elf(file, &mut found)?,
        File::Elf64(file) => of_elf(file, &mut found)?,
        File::MachO32(file) => of_macho(file, &mut found)?,
        File::MachO64(file) => of_macho(file, &mut found)?,
        File::Pe32(file) => of_pe(file, &mut found)?,
        File::Pe64(file) => of_pe(file, &mut found)?,
        _ => {}
    }
    Ok(found)
}

fn add(found: &mut Vec<Dependency>, name: &[u8], system: impl FnOnce(&str) -> bool) -> Result<(), &'static str> {
    if found.len() == MOST {
        return Err("it needs thousands of libraries");
    }
    let system = str::from_utf8(name).is_ok_and(system);
    let name = text::printable(name);
    if !found.iter().any(|known| known.name == name) {
        found.push(Dependency { name, system });
    }
    Ok(())
}

fn of_elf<'d, Elf: FileHeader>(file: &ElfFile<'d, Elf>, found: &mut Vec<Dependency>) -> Result<(), &'static str> {
    let endian = file.endian();
    let little = elf_is_little(file);
    let headers = file.elf_program_headers();
    // What is mapped at an address; of segments that overlap the last one is.
    let mapped = |address: u64| -> Option<&'d [u8]> {
        headers.iter().rev().filter(|header| header.p_type(endian) == elf::PT_LOAD).find_map(|header| {
            let offset = address.checked_sub(header.p_vaddr(endian).into())?;
            let bytes = header.data(endian, file.data()).ok()?;
            bytes.get(usize::try_from(offset).ok()?..).filter(|rest| !rest.is_empty())
        })
    };
    let size = size_of::<Elf::Word>();
    let word = |bytes: &[u8]| {
        let push = |n: u64, byte: &u8| n << 8 | u64::from(*byte);
        if little { bytes.iter().rev().fold(0, push) } else { bytes.iter().fold(0, push) }
    };
    for header in headers.iter().filter(|header| header.p_type(endian) == elf::PT_DYNAMIC) {
        let table = mapped(header.p_vaddr(endian).into()).ok_or("its dynamic table is nowhere in the file")?;
        let entries: Vec<(u64, u64)> = table
            .chunks_exact(2 * size)
            .map(|entry| (word(&entry[..size]), word(&entry[size..])))
            .take_while(|(tag, _)| *tag != 0)
            .collect();
        let last = |wanted: u64| entries.iter().rev().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
        let searches = last(RPATH).or(last(RUNPATH)).is_some();
        for (_, name) in entries.iter().filter(|(tag, _)| [NEEDED, AUXILIARY, FILTER].contains(tag)) {
            let strings = last(STRINGS).and_then(mapped).ok_or("its names of libraries are nowhere in the file")?;
            let rest = usize::try_from(*name).ok().and_then(|name| strings.get(name..)).unwrap_or_default();
            let end = rest.iter().position(|&byte| byte == 0).ok_or("a name of a library does not end")?;
            add(found, &rest[..end], |name| is_system_elf(name, searches))?;
        }
    }
    Ok(())
}

const NEEDED: u64 = 1;
const STRINGS: u64 = 5;
const RPATH: u64 = 15;
const RUNPATH: u64 = 29;
const AUXILIARY: u64 = 0x7fff_fffd;
const FILTER: u64 = 0x7fff_ffff;

fn elf_is_little<Elf: FileHeader>(file: &ElfFile<'_, Elf>) -> bool {
    use object::Object;

    file.is_little_endian()
}

/// `searches` says that the library names folders of its own, in which the loader looks first.
fn is_system_elf(name: &str, searches: bool) -> bool {
    // These are in the process already, and a library of the same name is not loaded again.
    let always = ["libc.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "ld-linux-riscv64-lp64d.so.1"];
    let usual = ["libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libgcc_s.so.1", "libstdc++.so.6"];
    let others = ["libc.so", "libatomic.so.1", "libutil.so.1", "linux-vdso.so.1"];
    always.contains(&name)
        || (!searches && (usual.contains(&name) || others.contains(&name) || name.starts_with("libc.musl-")))
}

fn of_macho<Mach: MachHeader>(file: &MachOFile<'_, Mach>, found: &mut Vec<Dependency>) -> Result<(), &'static str> {
    let damaged = "its load commands are damaged";
    let mut commands = file.macho_load_commands().map_err(|_| damaged)?;
    while let Some(command) = commands.next().map_err(|_| damaged)? {
        let Some(dylib) = command.dylib().map_err(|_| damaged)? else { continue };
        let dylib: &macho::DylibCommand<Mach::Endian> = dylib;
        let name = command.string(file.endian(), dylib.dylib.name).map_err(|_| damaged)?;
        add(found, name, |name| name.starts_with("/usr/lib/") || name.starts_with("/System/Library/"))?;
    }
    Ok(())
}

fn of_pe<Pe: ImageNtHeaders>(file: &PeFile<'_, Pe>, found: &mut Vec<Dependency>) -> Result<(), &'static str> {
    let damaged = "its import table is damaged";
    if let Some(table) = file.import_table().map_err(|_| damaged)? {
        let mut descriptors = table.descriptors().map_err(|_| damaged)?;
        while let Some(descriptor) = descriptors.next().map_err(|_| damaged)? {
            let name = table.name(descriptor.name.get(object::LittleEndian)).map_err(|_| damaged)?;
            add(found, name, is_system_dll)?;
        }
    }
    if let Some(table) = file.delay_load_import_table().map_err(|_| damaged)? {
        let mut descriptors = table.descriptors().map_err(|_| damaged)?;
        while let Some(descriptor) = descriptors.next().map_err(|_| damaged)? {
            let name = table.name(descriptor.dll_name_rva.get(object::LittleEndian)).map_err(|_| damaged)?;
            add(found, name, is_system_dll)?;
        }
    }
    Ok(())
}

fn is_system_dll(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let known = [
        "kernel32.dll",
        "ntdll.dll",
        "advapi32.dll",
        "bcrypt.dll",
        "bcryptprimitives.dll",
        "ws2_32.dll",
        "userenv.dll",
        "msvcrt.dll",
        "ucrtbase.dll",
        "ole32.dll",
        "user32.dll",
    ];
    let runtime = ["api-ms-win-", "vcruntime140", "msvcp140"];
    known.contains(&name.as_str()) || runtime.iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_systems_own_libraries_count_as_such() {
        for name in ["libc.so.6", "libm.so.6", "libstdc++.so.6", "libc.musl-x86_64.so.1"] {
            assert!(is_system_elf(name, false), "{name}");
        }
        for name in ["libblas.so.3", "./libm.so.6", "/tmp/libc.so.6", "libc.so.6.evil", "libm", ""] {
            assert!(!is_system_elf(name, false), "{name}");
        }
        // Where the library itself says where to look, its own folder may hold a libm.
        assert!(is_system_elf("libc.so.6", true) && !is_system_elf("libm.so.6", true));
        assert!(is_system_dll("KERNEL32.dll") && is_system_dll("api-ms-win-crt-math-l1-1-0.dll"));
        assert!(!is_system_dll("evil.dll"));
    }
}
