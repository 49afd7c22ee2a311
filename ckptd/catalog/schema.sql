-- The catalog of one node. Version: see migrations.py (PRAGMA user_version).
-- Paths and link targets are BLOBs: file names are bytes, not always UTF-8. Times are seconds since the epoch (REAL).
-- CRC-64/NVME values are BLOBs of 8 bytes, big-endian: SQLite's integers are signed.

-- Single facts about this catalog.
CREATE TABLE facts (
    name  TEXT PRIMARY KEY,   -- 'node': the node's name when the catalog was made; 'ram_tier': marker of the RAM tier that
                              -- the rows speak of (another marker: that tier was lost, e.g. by a reboot);
                              -- 'met:<volume>': URL of its remote, once ckptd's mark was seen or made in it
    value TEXT NOT NULL
) STRICT;

-- One row a file that has a copy in a tier, that is being written, or that is durable but belongs to no checkpoint.
-- Files of committed checkpoints that have no local copy left are not here: their manifest describes them.
CREATE TABLE files (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again; names the NVMe object of a watch volume
    volume      TEXT    NOT NULL,
    path        BLOB    NOT NULL,      -- relative to the volume
    run         BLOB    NOT NULL,      -- derived from path by the layouts; here for the index
    step        INTEGER,               -- NULL: belongs to no step (a loose file)
    link        BLOB,                  -- target of a symbolic link of the job's; NULL: a regular file
    generation  INTEGER NOT NULL,      -- counts contents, from 1; a copy of an older generation is worth nothing
    closed      INTEGER NOT NULL,      -- 0: its writer has it open; 1: closed since
    size        INTEGER NOT NULL,      -- bytes, of the present generation; of an open file: as last seen
    mode        INTEGER NOT NULL,      -- permission bits
    uid         INTEGER NOT NULL,
    gid         INTEGER NOT NULL,
    mtime_ns    INTEGER NOT NULL,
    changed_at  REAL    NOT NULL,      -- when it was last written, closed, or renamed, by our clock
    began_at    REAL,                  -- when its writer was first seen to have it open, by our clock; NULL: that was not seen
    defect      TEXT,                  -- why the content cannot be whole (cut short, …); NULL: nothing wrong was found
    part_size   INTEGER,               -- of `parts`; NULL: no checksum of this generation was taken yet
    parts       BLOB,                  -- CRC-64/NVME of each part, 8 bytes each
    crc         BLOB,                  -- of the whole content
    requires    TEXT,                  -- JSON list of names that must lie beside it (an index names its shards); NULL: none
    points_to   INTEGER,               -- the step that a pointer file (`latest`) names; NULL: it is none, or names none
    plain       INTEGER NOT NULL,      -- 1: fetched from an object that no manifest describes and that is not ours: not sent, and
                                       -- not deleted in the remote; 0 from when the job writes it
    UNIQUE (volume, path)
) STRICT;
CREATE INDEX files_by_unit ON files (volume, run, step);

-- Objects that no manifest describes and that the job deleted here: not shown, until they are other versions.
CREATE TABLE hidden (
    volume TEXT NOT NULL,
    path   BLOB NOT NULL,              -- relative to the volume
    etag   TEXT NOT NULL,              -- version in the remote
    PRIMARY KEY (volume, path)
) STRICT;

-- Where whole copies of a file are.
CREATE TABLE copies (
    file       INTEGER NOT NULL REFERENCES files (id) ON DELETE CASCADE,
    place      TEXT    NOT NULL,       -- 'ram', 'nvme' or 'remote'
    generation INTEGER NOT NULL,       -- of which content; others than files.generation are stale
    location   BLOB    NOT NULL,       -- tier: absolute path of the content; remote: its key
    inode      INTEGER NOT NULL,       -- stamp of the content in the tier; 0 in the remote
    mtime_ns   INTEGER NOT NULL,       -- stamp; 0 in the remote
    etag       TEXT    NOT NULL,       -- version in the remote; '' in a tier
    PRIMARY KEY (file, place)
) STRICT;
CREATE INDEX copies_by_location ON copies (location);

-- Manifests known to be in the remote, of every node. A checkpoint is committed if and only if it has a current one.
CREATE TABLE manifests (
    volume       TEXT    NOT NULL,
    run          BLOB    NOT NULL,
    step         INTEGER NOT NULL,
    node         TEXT    NOT NULL,
    etag         TEXT    NOT NULL,     -- version of the manifest object; tells a refresh what it need not read again
    committed_at REAL    NOT NULL,
    body         TEXT    NOT NULL,     -- the manifest itself (docs/remote-layout.md)
    forgotten    TEXT    NOT NULL DEFAULT '[]',  -- JSON list of keys that the job deleted here since: no longer members
                                                 -- when the checkpoint is written anew
    PRIMARY KEY (volume, run, step, node)
) STRICT;

-- Manifests that were there and are not any more, the last of each node. Parts of a step that was written twice are told
-- apart by them, and what another node pruned is not sent again.
CREATE TABLE withdrawn (
    volume     TEXT    NOT NULL,
    run        BLOB    NOT NULL,
    step       INTEGER NOT NULL,
    node       TEXT    NOT NULL,       -- whose manifest it was
    written_at REAL    NOT NULL,       -- as the manifest said: by that node's clock
    ours       INTEGER NOT NULL,       -- 1: this node took it back to write the step anew; 0: another node did
    PRIMARY KEY (volume, run, step, node)
) STRICT;

-- How the job was launched that wrote a checkpoint here, where the environment of its processes could be read.
CREATE TABLE launches (
    volume     TEXT    NOT NULL,
    run        BLOB    NOT NULL,
    step       INTEGER NOT NULL,
    nodes      INTEGER NOT NULL,       -- nodes of the job
    ranks      INTEGER,                -- processes of the job, over all nodes; NULL: not said
    ranks_here INTEGER,                -- of them on this node; NULL: not said
    launcher   TEXT    NOT NULL,       -- torchrun, slurm, openmpi, hydra
    PRIMARY KEY (volume, run, step)
) STRICT;

-- Which jobs of the scheduler (Slurm) wrote a run on this node, so that a requeued one finds it again. Of each user
-- the newest 1,000.
CREATE TABLE jobs (
    volume TEXT    NOT NULL,
    run    BLOB    NOT NULL,
    job    INTEGER NOT NULL,           -- the scheduler's number
    uid    INTEGER NOT NULL,           -- of the process that wrote: numbers are the user's word, unless the cgroup says them
    name   TEXT    NOT NULL,           -- the job's; '': not known
    task   INTEGER,                    -- its number in an array of jobs; NULL: it is none
    at     REAL    NOT NULL,           -- when it was last seen to begin a checkpoint
    PRIMARY KEY (volume, run, job, uid)
) STRICT;
CREATE INDEX jobs_by_user ON jobs (uid, at);

CREATE TABLE pins (
    volume TEXT    NOT NULL,
    run    BLOB    NOT NULL,
    step   INTEGER NOT NULL,
    tier   TEXT    NOT NULL,           -- 'ram' or 'nvme': where it is wanted
    until  REAL,                       -- NULL: until unpinned; else a prefetch's time to live
    uid    INTEGER,                    -- user who wished it last, in whose allowance it counts; NULL: the daemon itself
    PRIMARY KEY (volume, run, step)
) STRICT;

-- Names that users gave to steps, of every node as far as the remote has told.
CREATE TABLE tags (
    volume TEXT    NOT NULL,
    run    BLOB    NOT NULL,
    name   TEXT    NOT NULL,
    step   INTEGER,                    -- NULL: deleted here, and the remote is still to be told
    node   TEXT    NOT NULL,           -- which set (or deleted) it
    at     REAL    NOT NULL,           -- when, by that node's clock: of two that disagree the later one holds
    etag   TEXT,                       -- version of its object in the remote; NULL: the remote is still to be told
    PRIMARY KEY (volume, run, name)
) STRICT;

CREATE TABLE policies (
    volume   TEXT NOT NULL,
    pattern  TEXT NOT NULL,            -- shell pattern over run names
    settings TEXT NOT NULL,            -- JSON object: only the keys that were set
    uid      INTEGER,                  -- user who set it first, in whose allowance it counts
    owner    INTEGER,                  -- whose the run of that name was when a user set it last: it counts while it is his;
                                       -- NULL: an administrator set it, it counts always
    PRIMARY KEY (volume, pattern)
) STRICT;

CREATE TABLE operations (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    kind        TEXT NOT NULL,
    volume      TEXT NOT NULL,
    target      TEXT NOT NULL,         -- RUN[@STEP], as a key (domain/names.py); '' means everything
    arguments   TEXT NOT NULL,         -- JSON object of text values
    uid         INTEGER,               -- user who asked for it; NULL: the daemon itself
    state       TEXT NOT NULL,         -- running, done, failed, cancelled, timeout
    bytes_total INTEGER NOT NULL,
    bytes_done  INTEGER NOT NULL,
    bytes_before INTEGER NOT NULL DEFAULT 0,  -- of bytes_done, what was done when it began: says nothing about its speed
    started_at  REAL NOT NULL,
    finished_at REAL,                  -- NULL while running; a running one found at start is begun again
    error       TEXT,                  -- NULL: none
    error_code  TEXT,
    hint        TEXT NOT NULL DEFAULT '',
    result      TEXT
) STRICT;

CREATE TABLE events (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      REAL NOT NULL,
    level   TEXT NOT NULL,             -- info, warning or error
    event   TEXT NOT NULL,             -- stable name
    message TEXT NOT NULL,
    fields  TEXT NOT NULL              -- JSON object of text values
) STRICT;

-- When copies were last read and found good (the scrub's memory). A check of a copy that went says nothing and is forgotten.
CREATE TABLE checks (
    volume TEXT NOT NULL,
    place  TEXT NOT NULL,              -- 'ram', 'nvme' or 'remote'
    path   BLOB NOT NULL,              -- relative to the volume
    crc    BLOB NOT NULL,              -- CRC-64/NVME of the content that was read; of another content nothing is known
    at     REAL NOT NULL,
    PRIMARY KEY (volume, place, path)
) STRICT;

-- What was measured of the saves that this node saw. For reports only: nothing is decided by it. The newest are kept, also of
-- checkpoints that are gone.
CREATE TABLE saves (
    volume     TEXT    NOT NULL,
    run        BLOB    NOT NULL,
    step       INTEGER NOT NULL,
    began_at   REAL,                   -- first write; NULL: it was not seen
    ended_at   REAL    NOT NULL,       -- last write
    durable_at REAL,                   -- this node's manifest; NULL: not yet, or never
    bytes      INTEGER NOT NULL,       -- of the files that this node wrote
    copied     INTEGER NOT NULL,       -- of them, what the remote copied from the checkpoint before
    PRIMARY KEY (volume, run, step)
) STRICT;
CREATE INDEX saves_by_end ON saves (ended_at);

-- How long checkpoints took to become hot that somebody asked for.
CREATE TABLE resumes (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    volume     TEXT    NOT NULL,
    run        BLOB    NOT NULL,
    step       INTEGER NOT NULL,
    began_at   REAL    NOT NULL,
    ended_at   REAL    NOT NULL,
    bytes      INTEGER NOT NULL,       -- of what was asked for
    fetched    INTEGER NOT NULL,       -- of them, what was not in the tier
    tier       TEXT    NOT NULL,       -- the slowest place where some of it was: 'ram', 'nvme' or 'remote'
    by         TEXT    NOT NULL        -- 'prefetch', or 'open': a job opened cold files of a mounted volume
) STRICT;

-- What the remotes did without ckptd: one object written and read back while nobody else worked.
CREATE TABLE probes (
    volume  TEXT    NOT NULL,
    at      REAL    NOT NULL,
    bytes   INTEGER NOT NULL,
    write_s REAL    NOT NULL,          -- seconds until the store had confirmed it
    read_s  REAL    NOT NULL,          -- seconds until it was back
    PRIMARY KEY (volume, at)
) STRICT;

-- Transfers that were begun: a killed daemon goes on where it was.
CREATE TABLE unfinished (
    key       TEXT PRIMARY KEY,        -- which transfer: 'up/<file>/<generation>/<volume>' or 'down/<file>/<generation>'
    upload_id TEXT NOT NULL,           -- the store's; '' for a download
    part_size INTEGER NOT NULL,
    size      INTEGER NOT NULL,
    detail    TEXT NOT NULL            -- the transfer engine's own
) STRICT;
CREATE TABLE unfinished_parts (
    key    TEXT NOT NULL REFERENCES unfinished (key) ON DELETE CASCADE,
    number INTEGER NOT NULL,           -- from 1
    size   INTEGER NOT NULL,
    tag    TEXT NOT NULL,
    crc    BLOB NOT NULL,
    PRIMARY KEY (key, number)
) STRICT;

-- Objects of ours in a remote that nothing describes any more: deleted when the remote is reachable.
CREATE TABLE leftovers (
    volume TEXT NOT NULL,
    key    TEXT NOT NULL,
    PRIMARY KEY (volume, key)
) STRICT;
