/* libseccomp behind a pipe: what it makes of profiles, for comparison with our own compiler.
 *
 *   resolve ARCH NAME           -> the number, negative for none
 *   default ACTION              begins a profile
 *   arch NAME                   adds an architecture; the native one is there only if added
 *   rule ACTION NAME N (ARG OP A B)*
 *   end                         -> "ok INSTRUCTIONS", then one line of them in hexadecimal; or
 *                                  "refused ERRNO"
 */
#include <errno.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define CODE_MAX (1 << 16)
#define RULES_MAX 8192
/* On some profiles the library takes for ever. */
#define SECONDS_MAX 1

struct rule {
    uint32_t action;
    char name[64];
    unsigned n;
    struct scmp_arg_cmp args[6];
};

static uint32_t standard;
static uint32_t arches[32];
static struct rule rules[RULES_MAX];
static unsigned arch_count, rule_count;

static void read_rule(void)
{
    struct rule *rule = &rules[rule_count++];
    unsigned i, arg, op;

    if (rule_count == RULES_MAX)
        exit(3);
    if (scanf("%" SCNx32 " %63s %u", &rule->action, rule->name, &rule->n) != 3 || rule->n > 6)
        exit(3);
    for (i = 0; i < rule->n; i++) {
        struct scmp_arg_cmp *cmp = &rule->args[i];
        if (scanf("%u %u %" SCNu64 " %" SCNu64, &arg, &op, &cmp->datum_a, &cmp->datum_b) != 4)
            exit(3);
        cmp->arg = arg;
        cmp->op = (enum scmp_compare)op;
    }
}

/* The native architecture is there from the beginning, and one filter has one endianness. */
static int set_arches(scmp_filter_ctx ctx)
{
    uint32_t native = seccomp_arch_native();
    unsigned i, wanted = 0;
    int rc = 0;

    for (i = 0; i < arch_count; i++)
        wanted |= arches[i] == native;
    if (!wanted)
        rc = seccomp_arch_remove(ctx, native);
    for (i = 0; i < arch_count && rc == 0; i++) {
        if (arches[i] != native)
            rc = seccomp_arch_add(ctx, arches[i]);
    }
    return rc;
}

static int add_rules(scmp_filter_ctx ctx)
{
    unsigned i;
    int rc = 0;

    for (i = 0; i < rule_count && rc == 0; i++) {
        const struct rule *rule = &rules[i];
        int number = seccomp_syscall_resolve_name(rule->name);
        if (number != __NR_SCMP_ERROR && rule->action != standard)
            rc = seccomp_rule_add_array(ctx, rule->action, number, rule->n, rule->args);
    }
    return rc;
}

static int compile(FILE *file)
{
    scmp_filter_ctx ctx = seccomp_init(standard);
    int rc = set_arches(ctx);

    if (rc == 0)
        rc = add_rules(ctx);
    if (rc == 0 && rule_count > 32)
        seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (rc == 0)
        rc = seccomp_export_bpf(ctx, fileno(file));
    return -rc;
}

static void finish(void)
{
    static unsigned char code[CODE_MAX];
    struct rlimit limit = { SECONDS_MAX, SECONDS_MAX };
    FILE *file = tmpfile();
    size_t length, i;
    int status;
    pid_t pid;

    if (file == NULL || (pid = fork()) < 0)
        exit(4);
    if (pid == 0) {
        setrlimit(RLIMIT_CPU, &limit);
        _exit(compile(file));
    }
    if (waitpid(pid, &status, 0) != pid)
        exit(4);
    if (status != 0) {
        printf("refused %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : EINTR);
    } else {
        rewind(file);
        length = fread(code, 1, sizeof code, file);
        printf("ok %zu\n", length / 8);
        for (i = 0; i < length; i++)
            printf("%02x", code[i]);
        printf("\n");
    }
    fclose(file);
}

int main(void)
{
    char word[64], name[64];

    while (scanf("%63s", word) == 1) {
        if (strcmp(word, "resolve") == 0 && scanf("%63s %63s", word, name) == 2) {
            uint32_t arch = seccomp_arch_resolve_name(word);
            if (arch == 0)
                printf("no\n");
            else
                printf("%d\n", seccomp_syscall_resolve_name_arch(arch, name));
        } else if (strcmp(word, "default") == 0 && scanf("%" SCNx32, &standard) == 1) {
            arch_count = rule_count = 0;
        } else if (strcmp(word, "arch") == 0 && scanf("%63s", name) == 1 && arch_count < 32) {
            arches[arch_count++] = seccomp_arch_resolve_name(name);
        } else if (strcmp(word, "rule") == 0) {
            read_rule();
        } else if (strcmp(word, "end") == 0) {
            finish();
        } else {
            return 2;
        }
        fflush(stdout);
    }
    return 0;
}
