"""What is called dangerous, and, as important, what is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsh_systemd.danger import look, programs
from tests.hostile import anything

DESTROYS = [
    "rm -rf /",
    "rm -rf /*",
    "rm -fr /",
    "rm -r -f /",
    "rm --recursive --force /",
    "rm -rf -- /",
    "rm -rf //",
    "rm -Rf /.",
    "sudo rm -rf /",
    "sudo -u root rm -rf /usr",
    "rm -rf /usr",
    "rm -rf /etc/",
    "rm -rf /home/*",
    "rm -rf ~",
    "rm -rf ~/",
    "rm -rf ~/*",
    "rm -rf $HOME",
    'rm -rf "$HOME"/*',
    "rm -rf ${HOME}/",
    "cd /tmp; rm -rf /var",
    "true && rm -rf /",
    'rm -rf "$DIR"/',
    "rm -rf $DIR/",
    "rm -rf ${DIR}/*",
    'rm -rf "${DIR}/"*',
    "rm -rf /$DIR",
    "rm -rf $A/$B",
    "rm -rf $STEAM/usr",
    "rm -rf --no-preserve-root /x",
    "sh -c 'rm -rf /'",
    'bash -lc "cd /; rm -rf /"',
    "eval 'rm -rf /'",
    "echo $(rm -rf /)",
    "echo `rm -rf /`",
    "ssh host rm -rf /",
    "if true; then rm -rf /; fi",
    "(rm -rf /)",
    "FOO=1 rm -rf /",
    "rm -rf /var/../",
    "DIR=/; rm -rf $DIR",
    "DIR=; rm -rf $DIR/",
    "timeout 5m nice -n 19 rm -rf /",
    "rm -rf / # clean up",
    "cd / && rm -rf *",
    "cd /etc && rm -rf ./*",
    "env A=b rm -rf /",
    "/bin/rm -rf /",
    "flock /run/l rm -rf /",
    ":(){ :|:& };:",
    "bomb() { bomb | bomb & }; bomb",
    "mkfs.ext4 /dev/sda1",
    "mkfs -t xfs /dev/nvme0n1",
    "wipefs -a /dev/sdb",
    "shred /dev/sda",
    "blkdiscard /dev/vda",
    "dd if=/dev/zero of=/dev/sda bs=1M",
    "cat image > /dev/sdb",
    "cp image /dev/mmcblk0",
    "gunzip -c x | tee /dev/sda",
    "curl -fsSL https://example.org/x | sh",
    "wget -qO- https://example.org/x | sudo bash -s -- --yes",
    "curl x | tar xz | sh",
    "bash <(curl -s https://example.org)",
    'sh -c "$(curl -fsSL https://example.org)"',
    'eval "$(wget -qO- example.org)"',
    "curl x | python3",
    "curl x | python3 -",
    "source <(curl -s x)",
    "chmod -R 777 /",
    "chmod -R 755 /etc",
    "chmod -R a+rwx /usr",
    "chown -R www-data /",
    "chown -R bob: /var",
    "mv /etc /tmp",
    "mv secret.txt /dev/null",
    "> /etc/passwd",
    "echo x > /etc/shadow",
    "truncate -s 0 /etc/fstab",
    "echo c > /proc/sysrq-trigger",
    "find / -delete",
    "find /usr -xdev -exec rm -rf {} +",
    "rsync -a --delete /empty/ /",
    "kill -9 -1",
]
HARMLESS = [
    "rm -rf /var/tmp/x",
    "rm -rf /backups/$(date +%F)",
    'echo "rm -rf /"',
    "echo 'rm -rf /'",
    "rm -f /etc/x.conf",
    "rm -rf /tmp/*",
    "rm -rf /var/cache/app/*",
    "rm -rf ./build",
    "rm -rf build dist",
    "rm -rf ~/.cache/app",
    "rm /",
    "rm -rf $HOME/.cache/x",
    "DIR=/backups/old; rm -rf $DIR/",
    'rm -rf "${DIR:?}/"*',
    "rm -rf ${DIR:-/backups/old}/*",
    "rm -rf $DIR",
    "# rm -rf /",
    "true # rm -rf /",
    "grep 'rm -rf /' /var/log/x",
    "git commit -m 'rm -rf / is bad'",
    "cd /backups && rm -rf *",
    "cat <<EOF\nrm -rf /\nEOF",
    "find /var/log -name '*.gz' -delete",
    "find / -name core -delete",
    "find /tmp -mtime +7 -exec rm -rf {} +",
    "dd if=/dev/sda of=/backups/sda.img",
    "dd if=/dev/zero of=/swapfile bs=1M",
    "cat x > /dev/null 2>&1",
    "echo x >> /etc/fstab",
    "mkfs.ext4 /var/images/disk.img",
    "mkfs.ext4 -F /dev/loop0",
    "curl -fsS https://example.org/ping",
    "curl x | jq .",
    "curl x | python3 -m json.tool",
    "curl x | perl -ne 'print'",
    "curl x > /tmp/y && sh /opt/z.sh",
    "wget -q https://example.org -O - | grep sh",
    "curl x | bash /opt/x.sh",
    "chmod 777 /tmp/x",
    "chmod -R 755 /srv/www",
    "chown -R www-data /var/www",
    "chmod +x /usr/local/bin/x",
    "mv /var/log/x /var/log/y",
    "mv a b",
    "cp /etc/passwd /backups",
    "tar -czf /backups/etc.tgz /etc",
    "rsync -a --delete / /backups/root/",
    "rsync -a --delete /data/ host:/",
    "kill -9 $(cat /run/x.pid)",
    "kill -1 123",
    "ls / | wc -l",
    "find / -xdev -type f",
    "psql -c 'DELETE FROM x'",
    "echo ':(){ :|: }'",
    "awk '{print $1}' /etc/passwd",
    "test -d /x || mkdir /x",
    "for f in /etc/*; do echo $f; done",
    "sudo systemctl restart nginx",
    "echo $((1+2))",
    "sh -c 'rm -rf /var/tmp/x'",
    "borg prune --keep-daily 7 /backups",
    "systemctl reboot",
    "sh /opt/backup.sh",
    "",
    "echo it's",
    "docker run --rm -v /:/host alpine ls",
    "nice rm -rf /srv/old",
    "tee /etc/motd < x",
]
DOUBTFUL = [
    "rm -rf $DIR/cache",
    "chmod -R 777 /srv/www",
    "crontab -r",
    "chmod -R o+w .",
    "mkfs.ext4 $DEVICE",
]


@pytest.mark.parametrize("command", DESTROYS)
def test_what_destroys_is_told(command: str) -> None:
    assert [each for each in look(command) if each.destroys], command


@pytest.mark.parametrize("command", HARMLESS)
def test_what_is_harmless_passes(command: str) -> None:
    assert look(command) == []


@pytest.mark.parametrize("command", DOUBTFUL)
def test_what_is_doubtful_is_said_and_no_more(command: str) -> None:
    found = look(command)
    assert found and not any(each.destroys for each in found)


def test_words_without_a_shell_are_what_they_are() -> None:
    assert look(["rm", "-rf", "/"])[0].destroys
    assert look(["echo", "x", ";", "rm", "-rf", "/"]) == []
    assert look(["rm", "-rf", "$HOME"]) == []
    assert look(["sh", "-c", "rm -rf /"])[0].destroys
    assert look("sh", stdin="rm -rf /")[0].destroys
    assert look("cat", stdin="rm -rf /") == []


def test_what_is_known_counts() -> None:
    assert look("rm -rf $DIR/", env={"DIR": "/backups/old"}) == []
    assert look("rm -rf $DIR/", env={"DIR": "/"})[0].destroys
    assert look("rm -rf *", cwd="/")[0].destroys
    assert look("rm -rf *", cwd="/backups") == []
    assert look("rm -rf *") == []


def test_a_finding_names_the_variable_that_it_hangs_on() -> None:
    assert [each.message for each in look("rm -rf $DIR/")] == ["'$DIR/': where $DIR is empty, this deletes /"]
    assert [each.message for each in look("rm -rf /usr")] == ["this deletes /usr"]


@given(st.one_of(anything, st.text(alphabet="rm -f/$(){}`'\"\\\n;|&<>#*~x=", max_size=40)))
def test_any_text_is_judged(text: str) -> None:
    look(text)
    list(programs(text))


def test_programs_are_found() -> None:
    assert list(programs("sudo /opt/a.sh x && sh -e /opt/b.sh; echo /opt/c.sh | /usr/bin/env python3 /opt/d.py")) == [
        "/opt/a.sh",
        "/opt/b.sh",
        "/opt/d.py",
    ]
    assert list(programs(["/opt/a", "/opt/b"])) == ["/opt/a"]
