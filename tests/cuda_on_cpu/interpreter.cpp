/* interpreter.cpp - threads that take turns; warps fall asleep now and then, so that a missing wait is found. */
#include <ucontext.h>

#include <memory>

static const size_t STACK_BYTES = 128 << 10, SHARED_MOST = 232448; /* of a Hopper block */

alignas(1024) unsigned char memory[(size_t)CPU_SHARED_STEP * CPU_CLUSTER_MOST];
cpu_thread *cpu_current;
dim3 cpu_grid, cpu_block_dim;

namespace {
struct turn {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
};
struct barrier {
    int waiting;
    long passed;
};
std::vector<cpu_thread> threads;
std::vector<turn> turns;
std::vector<barrier> warps, named;
std::vector<barrier> blocks, ended;
barrier cluster;
ucontext_t between;
const std::function<void()> *body;
long progress;
std::vector<int> asleep; /* rounds, of a warp */
std::vector<std::function<void()>> to_do;
uint32_t chance = 1;

uint32_t draw() {
    chance = chance * 1664525u + 1013904223u;
    return chance >> 16;
}

void arrive_at(barrier &b, int all) {
    if (++b.waiting < all) return;
    b.waiting = 0;
    b.passed++;
    progress++;
}
void wait_at(barrier &b, int all) {
    long before = b.passed;
    arrive_at(b, all);
    while (b.passed == before) cpu_yield();
}
void begin() {
    (*body)();
    cpu_current->done = true;
    barrier &left = ended[(size_t)cpu_current->number / cpu_block_dim.x];
    if (++left.waiting == (int)cpu_block_dim.x) memset(cpu_shared(), 0xff, CPU_SHARED_STEP); /* a block that is gone */
    progress++;
    cpu_yield();
}
} // namespace

int cpu_lane() {
    return cpu_current->number & 31;
}
cpu_thread *cpu_lane_of(int lane) {
    return &threads[(size_t)(cpu_current->number / 32 * 32 + lane)];
}
void cpu_yield() {
    swapcontext(&turns[(size_t)cpu_current->number].context, &between);
}
void cpu_progress() {
    progress++;
}
void cpu_warp_barrier() {
    wait_at(warps[(size_t)cpu_current->number / 32], 32);
}
void cpu_block_barrier() {
    wait_at(blocks[(size_t)cpu_current->number / cpu_block_dim.x], (int)cpu_block_dim.x);
}
void cpu_named_arrive(int number, int n) {
    arrive_at(named[(size_t)cpu_current->number / cpu_block_dim.x * 16 + (size_t)number], n);
}
void cpu_named_barrier(int number, int n) {
    wait_at(named[(size_t)cpu_current->number / cpu_block_dim.x * 16 + (size_t)number], n);
}
void cpu_later(std::function<void()> what) {
    to_do.push_back(std::move(what));
}
void cpu_product(std::function<void()> what) {
    cpu_current->products.push_back(std::move(what));
}
void cpu_products_commit() {
    cpu_current->product_groups.push_back(std::move(cpu_current->products));
    cpu_current->products.clear();
    if (draw() % 2) cpu_products_wait(0);
}
void cpu_products_wait(size_t open) {
    std::vector<std::vector<std::function<void()>>> &groups = cpu_current->product_groups;
    while (groups.size() > open) {
        for (const auto &product : groups[0]) product();
        groups.erase(groups.begin());
    }
}
void cpu_cluster_arrive() {
    cpu_current->cluster_passed = cluster.passed;
    if (++cluster.waiting < (int)threads.size()) return;
    cluster.waiting = 0;
    cluster.passed++;
    progress++;
}
void cpu_cluster_wait() {
    while (cluster.passed == cpu_current->cluster_passed) cpu_yield();
}
unsigned char *cpu_shared_of(int rank) {
    if (rank < 0 || rank >= (int)blocks.size()) cpu_fault("no such block in the cluster");
    return memory + (size_t)rank * CPU_SHARED_STEP;
}
unsigned char *cpu_shared() {
    return cpu_shared_of(cpu_current->number / (int)cpu_block_dim.x);
}
void cpu_fault(const char *what) {
    printf("block (%u, %u), thread %u: %s\n", blockIdx.x, blockIdx.y, threadIdx.x, what);
    exit(1);
}

/* The blocks from (x, y) of a cluster. */
static void run_blocks(int each, int cluster_size, unsigned x, unsigned y) {
    int n = each * cluster_size;
    to_do.clear();
    memset(memory, 0xff, (size_t)CPU_SHARED_STEP * (size_t)cluster_size);
    threads.assign((size_t)n, cpu_thread());
    warps.assign((size_t)n / 32, {0, 0});
    named.assign((size_t)cluster_size * 16, {0, 0});
    blocks.assign((size_t)cluster_size, {0, 0});
    ended.assign((size_t)cluster_size, {0, 0});
    cluster = {0, 0};
    for (int i = 0; i < n; i++) {
        turn &t = turns[(size_t)i];
        threads[(size_t)i].number = i;
        threads[(size_t)i].index = {(unsigned)(i % each), 0, 0};
        threads[(size_t)i].block = {x + (unsigned)(i / each), y, 0};
        getcontext(&t.context);
        t.context.uc_stack.ss_sp = t.stack.get();
        t.context.uc_stack.ss_size = STACK_BYTES;
        t.context.uc_link = NULL;
        makecontext(&t.context, begin, 0);
    }
    asleep.assign((size_t)n / 32, 0);
    int idle = 0;
    for (int left = n; left > 0;) {
        long before = progress;
        left = 0;
        for (size_t i = 0; i < to_do.size();) {
            if (draw() % 8) {
                i++;
                continue;
            }
            to_do[i]();
            to_do.erase(to_do.begin() + (long)i);
            progress++;
        }
        for (int i = 0; i < n; i++) {
            int &sleep = asleep[(size_t)i / 32];
            if (i % 32 == 0 && (sleep > 0 ? --sleep : draw() % 16) == 0 && draw() % 2) sleep = (int)(draw() % 64);
            cpu_current = &threads[(size_t)i];
            if (cpu_current->done) continue;
            if (sleep == 0) swapcontext(&between, &turns[(size_t)i].context);
            left += !cpu_current->done;
        }
        idle = progress == before ? idle + 1 : 0;
        if (left > 0 && idle > 1000) {
            for (int i = 0; i < n; i++)
                if (!threads[(size_t)i].done) cpu_current = &threads[(size_t)i];
            cpu_fault("waits for ever");
        }
    }
}

void cpu_run(dim3 grid, int n, size_t shared, const std::function<void()> &kernel, int cluster_size) {
    cpu_grid = grid;
    cpu_block_dim = dim3((unsigned)n);
    body = &kernel;
    if (shared > SHARED_MOST) {
        printf("%zu bytes of shared memory: a block can have %zu\n", shared, SHARED_MOST);
        exit(1);
    }
    if (cluster_size > CPU_CLUSTER_MOST || grid.x % (unsigned)cluster_size) {
        printf("%u blocks cannot be clusters of %d\n", grid.x, cluster_size);
        exit(1);
    }
    while ((int)turns.size() < n * cluster_size) turns.push_back({{}, std::unique_ptr<char[]>(new char[STACK_BYTES])});
    for (unsigned y = 0; y < grid.y; y++)
        for (unsigned x = 0; x < grid.x; x += (unsigned)cluster_size) run_blocks(n, cluster_size, x, y);
}
